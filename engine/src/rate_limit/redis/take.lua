-- Asks the rules of one field, in their order, for one call. KEYS: one per rule. ARGV, five per
-- rule: "gcra" or "fixed-window", calls, period in microseconds, cost, "1" for a dry run.
-- Returns how many microseconds each rule that was asked has to be waited for; 0 lets through.
-- The clock is the server's, so that replicas need not agree on the time.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Microseconds that rounding may cost.
local SLACK = 1

local function expire_in(microseconds)
  return math.max(1, math.ceil(microseconds / 1000))
end

-- The value is the theoretical arrival time: when the bucket is full again.
local function gcra(key, calls, period, cost)
  local full_at = tonumber(redis.call('GET', key) or '0')
  -- Nobody fills a bucket for longer than a period: then the clock was set back.
  if full_at < now or full_at > now + period + SLACK then
    full_at = now
  end
  local next = full_at + cost * period / calls
  local wait = next - period - now
  if wait > SLACK then
    return math.ceil(wait)
  end
  redis.call('SET', key, string.format('%.3f', next), 'PX', expire_in(next - now))
  return 0
end

-- The value is when the window was opened, and what was used of it.
local function fixed_window(key, calls, period, cost)
  local opened, used = now, 0
  local was_opened, was_used = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  if was_opened then
    local age = now - tonumber(was_opened)
    if age >= 0 and age < period then
      opened, used = tonumber(was_opened), tonumber(was_used)
    end
  end
  local left = opened + period - now
  if used + cost > calls then
    return math.max(1, math.ceil(left))
  end
  redis.call('SET', key, string.format('%.0f:%.0f', opened, used + cost), 'PX', expire_in(left))
  return 0
end

local waits = {}
for i, key in ipairs(KEYS) do
  local first = (i - 1) * 5
  local calls = tonumber(ARGV[first + 2])
  local period = tonumber(ARGV[first + 3])
  local cost = tonumber(ARGV[first + 4])
  local ask = ARGV[first + 1] == 'gcra' and gcra or fixed_window
  waits[i] = ask(key, calls, period, cost)
  if waits[i] > 0 and ARGV[first + 5] ~= '1' then
    break
  end
end
return waits
