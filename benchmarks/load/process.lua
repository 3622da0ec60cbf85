-- wrk posts to /process, every request with a user and a session of its own:
--   wrk ... -s process.lua URL -- TEXT PREFIX
-- and ends with one line of JSON, latencies and duration in microseconds.
local head, middle, tail
local count = 0

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init(args)
  local text, prefix = args[1], args[2]
  head = '{"input":[{"role":"user","type":"message","content":[{"type":"text","text":"' .. text
    .. '"}]}],"session_id":"s-' .. prefix
  middle = '","user_id":"u-' .. prefix
  tail = '"}'
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, head .. count .. middle .. count .. tail)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"duration":%d,"median":%d,"p99":%d,'
      .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
