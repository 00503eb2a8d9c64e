"""Works over Redis Streams: API processes put them in, workers with an engine take them out.

One consumer group a stream, at least once. `keys` names all that is in Redis, `scripts` holds the steps that
must be one, `wire` what travels; `dispatcher`, `jobs` and `callbacks` are the API's side, `consumer` and
`streams` the worker's.
"""
