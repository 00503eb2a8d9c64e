"""Jobs over Redis Streams: thin API processes put them in, workers with an engine take them out.

One consumer group a stream, at least once. `keys` names all that is in Redis, `scripts` holds the steps
that must be one, `producer` is the API's side and `consumer` the worker's; `lines` carries what cannot wait.
"""
