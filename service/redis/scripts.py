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


# Take a work in, unless too many wait already. A client that had to repeat the call, because its connection
# broke before the reply came, finds its work known; so does one that repeats an idempotency key.
# A job has a record besides. Returns {accepted, waiting before it, what the key stands for}.
# The upload has been put there right before, in the same transaction: Lua is slow with large strings.
#   KEYS stream, upload, outcome, record, idempotency key
#   ARGV group, limit, id, channel, the record's life or 0, what the key means or '', record...
SUBMIT = """
if redis.call('HEXISTS', KEYS[2], 'entry') == 1 then return {1, 0, ARGV[6]} end
local known = redis.call('EXISTS', KEYS[3]) == 1 and ARGV[6]
if ARGV[6] ~= '' then known = redis.call('GET', KEYS[5]) or known end
if known then
  redis.call('DEL', KEYS[2])
  return {1, 0, known}
end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  pending = {0}
end
local waiting = redis.call('XLEN', KEYS[1]) - pending[1]
if waiting > tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[2])
  return {0, waiting, ''}
end
local entry = redis.call('XADD', KEYS[1], '*', 'job', ARGV[3], 'channel', ARGV[4])
redis.call('HSET', KEYS[2], 'entry', entry, 'job', ARGV[3])
if tonumber(ARGV[5]) > 0 then
  local time = redis.call('TIME')
  local created = time[1] + time[2] / 1000000
  local deadline = created + redis.call('PTTL', KEYS[2]) / 1000
  redis.call('HSET', KEYS[4], 'state', 'queued', 'entry', entry, 'created', string.format('%.3f', created),
    'deadline', string.format('%.3f', deadline), unpack(ARGV, 7))
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
  if ARGV[6] ~= '' then redis.call('SET', KEYS[5], ARGV[6], 'PX', ARGV[5]) end
end
return {1, waiting, ARGV[6]}
"""

# Read from the streams in their order until there are enough: XREADGROUP alone counts for each stream.
#   KEYS streams...   ARGV group, consumer, count      Returns {stream, id, fields, stream, id, fields, ...}
TAKE = """
local taken, left = {}, tonumber(ARGV[3])
for _, stream in ipairs(KEYS) do
  if left < 1 then break end
  local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', stream, '>')
  for _, entry in ipairs(found and found[1][2] or {}) do
    taken[#taken + 1] = stream
    taken[#taken + 1] = entry[1]
    taken[#taken + 1] = entry[2]
    left = left - 1
  end
end
return taken
"""

# Answer a work. XACK says 1 to the first who finishes an entry and to nobody after, so it decides whose
# answer counts. A request whose upload is gone is no longer waited for; a job is, until it is final or
# deleted. Returns 'duplicate', 'dropped' or 'answered'. The answer has been put into the draft right before,
# in the same transaction, and becomes the outcome by taking its name, which whoever waits for it is told.
#   KEYS stream, upload, outcome, dead letters, record, callbacks, draft
#   ARGV group, entry, id, channel, reason of death or '', dead's life in ms, final state, report
FINISH = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  redis.call('UNLINK', KEYS[7])
  return 'duplicate'
end
redis.call('XDEL', KEYS[1], ARGV[2])
if ARGV[5] ~= '' then
  redis.call('XADD', KEYS[4], '*', 'job', ARGV[3], 'stream', KEYS[1], 'reason', ARGV[5])
  redis.call('PEXPIRE', KEYS[4], ARGV[6])
end
local wanted = redis.call('UNLINK', KEYS[2]) == 1
local state, life, callback = unpack(redis.call('HMGET', KEYS[5], 'state', 'life', 'callback'))
if state then wanted = state == 'queued' or state == 'running' end
if not wanted then
  redis.call('UNLINK', KEYS[7])
  return 'dropped'
end
redis.call('RENAME', KEYS[7], KEYS[3])
if state then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[5], 'state', ARGV[7], 'report', ARGV[8],
    'finished', string.format('%.3f', time[1] + time[2] / 1000000))
  redis.call('PEXPIRE', KEYS[5], life)
  redis.call('PEXPIRE', KEYS[3], life)
  if callback ~= '' then redis.call('XADD', KEYS[6], '*', 'job', ARGV[3]) end
end
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 'answered'
"""

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

# A worker says that it lives and what it hosts, by Redis' own clock; those silent for too long are forgotten.
#   KEYS fleet   ARGV worker, announcement, seconds until forgotten
ANNOUNCE = """
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen = string.match(all[i + 1], '^%d+')
  if now - seen > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
