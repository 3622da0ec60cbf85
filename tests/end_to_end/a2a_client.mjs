// @a2a-js/sdk, on the binding that is named: node a2a_client.mjs URL BINDING. One line of JSON for each step.
import { randomUUID } from "node:crypto";
import { ClientFactory, ClientFactoryOptions, JsonRpcTransportFactory, RestTransportFactory } from "@a2a-js/sdk/client";
import { GrpcTransportFactory } from "@a2a-js/sdk/client/grpc";

const [url, binding] = process.argv.slice(2);
const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
  transports: [new JsonRpcTransportFactory(), new RestTransportFactory(), new GrpcTransportFactory()],
  preferredTransports: [binding],
});
const client = await new ClientFactory(options).createFromUrl(url);
const say = (step, told) => console.log(JSON.stringify({ step, ...told }));
const ask = (text, taskId = "") => ({
  tenant: "",
  metadata: undefined,
  configuration: undefined,
  message: {
    messageId: randomUUID(), contextId: "", taskId, role: 1, metadata: undefined, extensions: [], referenceTaskIds: [],
    parts: [{ content: { $case: "text", value: text }, metadata: undefined, filename: "", mediaType: "" }],
  },
});
const text = (parts) => parts.map((part) => part.content.value).join("");
const said = (task) => task.artifacts.map((artifact) => text(artifact.parts)).join("");
say("card", { version: client.protocolVersion });

const kinds = [];
let streamed = "";
let id = "";
for await (const event of client.sendMessageStream(ask("count 3"))) {
  kinds.push(event.payload.$case);
  if (event.payload.$case === "task") id = event.payload.value.id;
  if (event.payload.$case === "artifactUpdate") streamed += text(event.payload.value.artifact.parts);
}
say("stream", { kinds, text: streamed });
const got = await client.getTask({ tenant: "", id, historyLength: undefined });
say("get", { text: said(got), state: got.status.state, history: got.history.length });

const asked = await client.sendMessage(ask("ask"));
const task = asked.payload?.value ?? asked;
const answered = await client.sendMessage(ask("Rome", task.id));
say("answer", { asked: task.status.state, text: said(answered.payload?.value ?? answered) });

let canceled;
for await (const event of client.sendMessageStream(ask("forever /dev/null"))) {
  if (event.payload.$case === "task") id = event.payload.value.id;
  if (event.payload.$case === "artifactUpdate" && canceled === undefined) {
    canceled = client.cancelTask({ tenant: "", id, metadata: undefined });
  }
}
say("cancel", { state: (await canceled).status.state });
try {
  await client.getTask({ tenant: "", id: "resp_nobody", historyLength: undefined });
} catch (error) {
  say("missing", { error: error.name });
}
process.exit(0);
