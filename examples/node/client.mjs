// Drives a Portico core from Node: the .proto files and @grpc/grpc-js, nothing of Portico's own.
//
//   npm install @grpc/grpc-js @grpc/proto-loader
//   node client.mjs 127.0.0.1:50051 "what is a session?"
//
// Prints one line of JSON for each step, so that a program can check it too.

import { fileURLToPath } from "node:url";
import path from "node:path";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [target = "127.0.0.1:50051", question = "hello", slow = ""] = process.argv.slice(2);
const protos = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../proto");
const definition = await loader.load("portico/v1/query.proto", {
  includeDirs: [protos],
  keepCase: true,
  defaults: true, // numbers that are 0 are not on the wire
  longs: Number,
  enums: String,
  oneofs: true,
});
const { portico } = grpc.loadPackageDefinition(definition);
const query = new portico.v1.QueryService(target, grpc.credentials.createInsecure());

const say = (step, value) => console.log(JSON.stringify({ step, ...value }));
const request = (text) => ({
  request: { input: [{ role: "ROLE_USER", content: [{ text }] }] },
});

// A stream of frames as a stream of events.
async function* events(call) {
  for await (const frame of call) yield* frame.events;
}

// 1. Query: start a run and follow it.
let runId;
let text = "";
const numbers = [];
for await (const event of events(query.Query(request(question)))) {
  numbers.push(event.sequence_number);
  if (event.object === "response") runId = event.response.id;
  if (event.object === "content" && event.content.delta) text += event.content.text;
}
say("query", { runId, text, events: numbers.length, dense: numbers.every((n, i) => n === i) });

// 2. WatchRun: read the same run again, from after its third event.
const rest = [];
for await (const event of events(query.WatchRun({ run_id: runId, after_sequence_number: 2 }))) {
  rest.push(event.sequence_number);
}
say("watch", { first: rest[0], last: rest.at(-1) });

// 3. A cursor beyond the end is a typed error: google.rpc.ErrorInfo travels in the trailers.
try {
  for await (const _ of events(query.WatchRun({ run_id: runId, after_sequence_number: 1000000 })));
} catch (error) {
  say("ahead", { code: grpc.status[error.code], details: error.details });
}

// 4. CancelRun: stop a run that would go on for long.
if (slow) {
  const cancel = (id) =>
    new Promise((resolve) =>
      query.CancelRun({ run_id: id }, (error, answer) =>
        resolve({ error: error?.details ?? null, status: answer?.run.response.status ?? null }),
      ),
    );
  let slowId;
  let last;
  let cancelled;
  for await (const event of events(query.Query(request(slow)))) {
    if (event.object === "response") {
      slowId = event.response.id;
      last = event.response.status;
    }
    if (event.object === "content") cancelled ??= cancel(slowId);
  }
  say("cancel", await cancelled);
  say("ended", { status: last });
}
query.close();
