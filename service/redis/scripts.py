"""Steps that must happen whole or not at all, each one Lua script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def arguments(script: str, keys: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """Of EVAL. The script is sent whole each time: by its digest alone, one that Redis has lost with a
    restart would have to be sent after all, and Redis looks the text up by its digest anyway.
    """
    return (script, len(keys), *keys, *values)


def run(client: Any, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
    return client.eval(*arguments(script, keys, values))


# What jobs hold, all and by owner, so that neither can fill Redis. What a job holds ends with the job's own
# life, whoever dies meanwhile; ends are looked at whenever something is added.
LEDGER = """
local held, sums = 'retouch:held', 'retouch:bytes'
local function add(name, bytes)
  if redis.call('HINCRBY', sums, name, bytes) <= 0 then redis.call('HDEL', sums, name) end
end
local function charged(id) return string.match(redis.call('HGET', sums, id) or '', '^(%d+) (.*)$') end
local function refund(id)
  local bytes, owner = charged(id)
  if not bytes then return end
  redis.call('ZREM', held, id)
  redis.call('HDEL', sums, id)
  add('all', -bytes)
  add('of ' .. owner, -bytes)
end
local function charge(id, owner, bytes, life)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, over in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', now, 'LIMIT', 0, 100)) do refund(over) end
  refund(id)
  redis.call('ZADD', held, now + life, id)
  redis.call('HSET', sums, id, bytes .. ' ' .. owner)
  add('all', bytes)
  add('of ' .. owner, bytes)
  for _, key in ipairs({held, sums}) do
    if redis.call('PTTL', key) < tonumber(life) then redis.call('PEXPIRE', key, life) end
  end
end
-- Which limit so many more bytes would break; a single job may break any.
local function broken(owner, bytes, all, each)
  if bytes <= 0 then return end
  local known, own = unpack(redis.call('HMGET', sums, 'all', 'of ' .. owner))
  if owner ~= '' and own and own + bytes > tonumber(each) then return 'key' end
  if known and known + bytes > tonumber(all) then return 'jobs' end
end
-- Whether Redis holds more than a share of what it may; unknown to users who may not ask, and then never.
local function full(share)
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return false end
  local used, most = string.match(info, 'used_memory:(%d+)'), tonumber(string.match(info, 'maxmemory:(%d+)'))
  return most > 0 and used / most > share
end
"""

# Whose work an entry of a stream stands for is decided when it is taken: the callers' works wait in lists,
# and callers take turns. So one who sends many waits behind himself, and the streams stay what autoscalers
# read. What an entry has been given is remembered until it is finished, whoever finishes it.
TURNS = """
local function callers_of(stream) return 'retouch:turns:' .. stream end
local function enqueue(stream, owner, work)
  local callers = callers_of(stream)
  if redis.call('XLEN', stream) == 0 then  -- whoever removed the entries has left their works
    for _, other in ipairs(redis.call('LRANGE', callers, 0, -1)) do
      redis.call('DEL', callers .. ':' .. other)
    end
    redis.call('DEL', callers, 'retouch:given:' .. stream)
  end
  if redis.call('RPUSH', callers .. ':' .. owner, work) == 1 then redis.call('RPUSH', callers, owner) end
end
local function turn(stream, entry)
  local callers, given = callers_of(stream), 'retouch:given:' .. stream
  local work = redis.call('HGET', given, entry)
  if work then return work end
  local owner = redis.call('LPOP', callers)
  work = owner and redis.call('LPOP', callers .. ':' .. owner)
  if not work then return '' end
  if redis.call('EXISTS', callers .. ':' .. owner) == 1 then redis.call('RPUSH', callers, owner) end
  redis.call('HSET', given, entry, work)
  return work
end
"""

# What an entry stands for.    KEYS stream   ARGV entry      Returns 'id channel', or '' for nothing
TURN = TURNS + "return turn(KEYS[1], ARGV[1])"

# How many works come before one, if nobody sends more.   KEYS stream   ARGV owner, 'id channel'
AHEAD = (
    TURNS
    + """
local callers = callers_of(KEYS[1])
local own = redis.call('LPOS', callers .. ':' .. ARGV[1], ARGV[2])
if not own then return 0 end
local before, count = 1, own
for _, other in ipairs(redis.call('LRANGE', callers, 0, -1)) do
  if other == ARGV[1] then
    before = 0
  else
    count = count + math.min(redis.call('LLEN', callers .. ':' .. other), own + before)
  end
end
return count
"""
)

# How full Redis may be for what: room is left to answer what was taken, and most of it to whoever waits.
JOBS_SHARE, JOB_ANSWERS_SHARE, REQUESTS_SHARE = 0.5, 0.75, 0.9

# Take a work in, unless too many wait already. A client that had to repeat the call, because its connection
# broke before the reply came, finds its work known; so does one that repeats an idempotency key.
# A job has a record besides. Returns {'accepted' or what was full, waiting before it, what the key means}.
# The upload has been put there right before, in the same transaction: Lua is slow with large strings.
#   KEYS stream, upload, outcome, record, idempotency key
#   ARGV group, limit, id, channel, share, the record's life or 0, what the key means or '', bytes, owner,
#     record...
SUBMIT = (
    LEDGER
    + TURNS
    + """
local life, meaning, bytes = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local owner, record = ARGV[9], {unpack(ARGV, 10)}
if redis.call('HEXISTS', KEYS[2], 'entry') == 1 then return {'accepted', 0, meaning} end
local known = redis.call('EXISTS', KEYS[3]) == 1 and meaning
if meaning ~= '' then
  local before = redis.call('GET', KEYS[5])
  -- A key outlives the job that it stands for if that is over early.
  local other = before and string.sub(KEYS[4], 1, -1 - #ARGV[3]) .. string.match(before, '^%S+')
  known = other and redis.call('EXISTS', other) == 1 and before or known
end
if known then
  redis.call('DEL', KEYS[2])
  return {'accepted', 0, known}
end
local given = {}
for i = 1, #record, 2 do given[record[i]] = record[i + 1] end
local reason = full(tonumber(ARGV[5])) and 'memory'
if life > 0 then reason = broken(owner, bytes, given.room, given.key_room) or reason end
if reason then
  redis.call('DEL', KEYS[2])
  return {reason, 0, ''}
end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  pending = {0}
end
local waiting = redis.call('XLEN', KEYS[1]) - pending[1]
if waiting > tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[2])
  return {'queue', waiting, ''}
end
enqueue(KEYS[1], owner, ARGV[3] .. ' ' .. ARGV[4])
local entry = redis.call('XADD', KEYS[1], '*', 'job', ARGV[3], 'channel', ARGV[4], 'turn', 'yes')
redis.call('HSET', KEYS[2], 'entry', entry, 'job', ARGV[3])
if life > 0 then
  local time = redis.call('TIME')
  local created = time[1] + time[2] / 1000000
  local deadline = created + redis.call('PTTL', KEYS[2]) / 1000
  redis.call('HSET', KEYS[4], 'state', 'queued', 'entry', entry, 'created', string.format('%.3f', created),
    'deadline', string.format('%.3f', deadline), unpack(record))
  redis.call('PEXPIRE', KEYS[4], life)
  if meaning ~= '' then redis.call('SET', KEYS[5], meaning, 'PX', life) end
  charge(ARGV[3], owner, bytes, life)
end
return {'accepted', waiting, meaning}
"""
)

# Read from the streams in their order until there are enough: XREADGROUP alone counts for each stream.
#   KEYS streams...   ARGV group, consumer, count      Returns {stream, id, fields, stream, id, fields, ...}
TAKE = (
    TURNS
    + """
local taken, left = {}, tonumber(ARGV[3])
for _, stream in ipairs(KEYS) do
  if left < 1 then break end
  local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', stream, '>')
  for _, entry in ipairs(found and found[1][2] or {}) do
    taken[#taken + 1] = stream
    taken[#taken + 1] = entry[1]
    local fields = entry[2]
    if fields[5] == 'turn' then
      local id, channel = string.match(turn(stream, entry[1]), '^(%S+) (%S+)$')
      fields = id and {'job', id, 'channel', channel} or {}
    end
    taken[#taken + 1] = fields
    left = left - 1
  end
end
return taken
"""
)

# Answer a work. XACK says 1 to the first who finishes an entry and to nobody after, so it decides whose
# answer counts. A request whose upload is gone is no longer waited for; a job is, until it is final or
# deleted. Returns 'duplicate', 'dropped' or 'answered'. The answer has been put into the draft right before,
# in the same transaction, and becomes the outcome by taking its name, which whoever waits for it is told. An
# answer that finds no room is replaced by the problem that says so: this script works in a full Redis too.
#   KEYS stream, upload, outcome, dead letters, record, callbacks, draft
#   ARGV group, entry, id, channel, reason of death or '', dead's life in ms, final state, report, bytes of
#     the answer, bytes of a job besides, share, problem without room, its report, an outcome's life
FINISH = (
    LEDGER
    + """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  redis.call('UNLINK', KEYS[7])
  return 'duplicate'
end
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('HDEL', 'retouch:given:' .. KEYS[1], ARGV[2])
if ARGV[5] ~= '' then
  redis.call('XADD', KEYS[4], '*', 'job', ARGV[3], 'stream', KEYS[1], 'reason', ARGV[5])
  redis.call('PEXPIRE', KEYS[4], ARGV[6])
end
local wanted = redis.call('UNLINK', KEYS[2]) == 1
local state, life, callback, owner, room, key_room =
  unpack(redis.call('HMGET', KEYS[5], 'state', 'life', 'callback', 'owner', 'room', 'key_room'))
if state then wanted = state == 'queued' or state == 'running' end
if not wanted then
  redis.call('UNLINK', KEYS[7])
  return 'dropped'
end
local final, report, answer, rest = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local fits = redis.call('EXISTS', KEYS[7]) == 1
if state and room then
  local more = answer + rest - (charged(ARGV[3]) or 0)
  fits = fits and not broken(owner, more, room, key_room) and not (answer > 0 and full(tonumber(ARGV[11])))
  charge(ARGV[3], owner, rest + (fits and answer or 0), life)
end
if fits then
  redis.call('RENAME', KEYS[7], KEYS[3])
else
  redis.call('UNLINK', KEYS[7])
  redis.call('HSET', KEYS[3], 'head', ARGV[12])
  redis.call('PEXPIRE', KEYS[3], ARGV[14])
  final, report = 'failed', ARGV[13]
end
if state then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[5], 'state', final, 'report', report,
    'finished', string.format('%.3f', time[1] + time[2] / 1000000))
  redis.call('PEXPIRE', KEYS[5], life)
  redis.call('PEXPIRE', KEYS[3], life)
  if callback ~= '' then redis.call('XADD', KEYS[6], '*', 'job', ARGV[3]) end
end
redis.call('PUBLISH', ARGV[4], ARGV[3])
return fits and 'answered' or 'no_room'
"""
)

# Forget a job, and what it holds.
#   KEYS channel, keys of the job...   ARGV id
FORGET = (
    LEDGER
    + """
refund(ARGV[1])
redis.call('UNLINK', unpack(KEYS, 2))
redis.call('PUBLISH', KEYS[1], ARGV[1])
"""
)

# Say how far a job is, if it is still under way.
#   KEYS record   ARGV id, channel, windows done, of total
PROGRESS = """
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return end
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[1], 'started', string.format('%.3f', time[1] + time[2] / 1000000))
redis.call('HSET', KEYS[1], 'state', 'running', 'windows_done', ARGV[3], 'windows_total', ARGV[4])
redis.call('PUBLISH', ARGV[2], ARGV[1])
"""

# Deleting a consumer discards what it still has pending, so only those with nothing may go: the one that
# leaves, and those that have not been heard of for long.
#   KEYS streams...   ARGV group, consumer that leaves or '', milliseconds of silence
RETIRE = """
for _, stream in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1])
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local name, pending, idle = consumer[2], consumer[4], consumer[6]
    if pending == 0 and (name == ARGV[2] or idle > tonumber(ARGV[3])) then
      redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], name)
    end
  end
end
"""

# Whose weights count where workers disagree: those that were there first, for as long as somebody says that
# he has them. Returns the models of which others have other weights.
#   KEYS weights   ARGV milliseconds, model, digest...
CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local disputed = {}
for i = 2, #ARGV, 2 do
  local ends, digest = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^(%d+) (.*)$')
  if digest and digest ~= ARGV[i + 1] and tonumber(ends) > now then
    disputed[#disputed + 1] = ARGV[i]
  else
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%d', now + ARGV[1]) .. ' ' .. ARGV[i + 1])
  end
end
redis.call('EXPIRE', KEYS[1], 60)
return disputed
"""

# A worker says that it lives and what it hosts, by Redis' own clock; those silent for too long are forgotten.
#   KEYS fleet   ARGV worker, announcement, seconds until forgotten
ANNOUNCE = """
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen = string.match(all[i + 1], '^%d+')
  if not seen or now - seen > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
