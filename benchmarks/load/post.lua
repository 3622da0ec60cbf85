-- wrk posts bodies made from a template, in which {n} is another number in every request:
--   wrk ... -s post.lua URL -- TEMPLATE [CLIENTS MILLISECONDS]
-- so many clients begin spread over so long; without them, all at once. It ends with one line of JSON,
-- latencies and duration in microseconds.
local parts = {}
local count = 0

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["A2A-Version"] = "1.0"

function init(args)
  local rest = args[1]
  while true do
    local first, last = string.find(rest, "{n}", 1, true)
    if not first then break end
    parts[#parts + 1] = string.sub(rest, 1, first - 1)
    rest = string.sub(rest, last + 1)
  end
  parts[#parts + 1] = rest
  if args[2] then
    local waiting = tonumber(args[2])
    function delay()
      waiting = waiting - 1
      return waiting < 0 and 0 or math.random(0, tonumber(args[3]))
    end
  end
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, table.concat(parts, count))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"duration":%d,"median":%d,"p95":%d,"p99":%d,'
      .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
