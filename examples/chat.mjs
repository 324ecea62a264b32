// Asks a gateway from Node 18 or newer: node chat.mjs QUESTION [URL]

import { randomUUID } from "node:crypto";

const [question, gateway = "http://127.0.0.1:8080"] = process.argv.slice(2);
const ndjson = { Accept: "application/x-ndjson" };
const asking = {
  method: "POST", body: JSON.stringify({ message: question, session_id: "example" }),
  headers: { ...ndjson, "Content-Type": "application/json", "Idempotency-Key": randomUUID() },
};
let [turn, seq, status] = [null, 0, null];

while (!status) {
  try {
    const response = turn
      ? await fetch(`${gateway}/v1/turns/${turn}/events?after=${seq}`, { headers: ndjson })
      : await fetch(`${gateway}/v1/chat/stream`, asking);
    if (response.ok) turn ??= response.headers.get("Turn-Id");
    else if (response.status < 500 && response.status !== 429) status = (await response.json()).detail;
    let rest = "";
    for await (const text of response.ok ? response.body.pipeThrough(new TextDecoderStream()) : []) {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const event of lines.map((line) => JSON.parse(line))) {
        seq = event.seq ?? seq;
        if (event.type === "delta") process.stdout.write(event.text);
        else if (event.type === "snapshot") process.stdout.write(`\n${event.message.content}`); // In place of all there was.
        else if (event.type === "turn.finished") status = event.status;
      }
    }
  } catch {
    // The connection is gone; the turn is not.
  }
  if (!status) await new Promise((done) => setTimeout(done, 500));
}
process.stdout.write("\n");
if (status !== "completed") {
  console.error(status);
  process.exitCode = 1;
}
