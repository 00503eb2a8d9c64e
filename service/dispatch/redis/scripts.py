"""Steps that must happen whole or not at all, each one Lua script."""

from __future__ import annotations

# Take a job in, unless too many wait already. A client that had to repeat the call, because its connection
# broke before the reply came, finds its job known. Returns {accepted, waiting before it}.
#   KEYS stream, upload, outcome   ARGV group, limit, milliseconds to live, job, reply, upload's fields...
SUBMIT = """
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return {1, 0} end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  pending = {0}
end
local waiting = redis.call('XLEN', KEYS[1]) - pending[1]
if waiting > tonumber(ARGV[2]) then return {0, waiting} end
redis.call('HSET', KEYS[2], unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('XADD', KEYS[1], '*', 'job', ARGV[4], 'reply', ARGV[5])
return {1, waiting}
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

# Answer a job. XACK says 1 to the first who finishes an entry and to nobody after, so it decides whose answer
# counts; an upload that is gone means that nobody waits. Returns 'duplicate', 'dropped' or 'answered'.
#   KEYS stream, upload, outcome, dead letters
#   ARGV group, entry, job, channel, outcome, its life in milliseconds, reason of death or '', dead's life
FINISH = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 'duplicate' end
redis.call('XDEL', KEYS[1], ARGV[2])
if ARGV[7] ~= '' then
  redis.call('XADD', KEYS[4], '*', 'job', ARGV[3], 'stream', KEYS[1], 'reason', ARGV[7])
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
end
if redis.call('DEL', KEYS[2]) == 0 then return 'dropped' end
redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
redis.call('PUBLISH', ARGV[4], ARGV[3])
return 'answered'
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
