// Where the swarm is, and what its fake servers saw; the test that starts us sets the environment.
import { setTimeout as sleep } from "node:timers/promises";

export const url = process.env.SWARM_URL;
export const servers = JSON.parse(process.env.SWARM_SERVERS ?? "{}");
// One row per kind of backend: { name, chat, sees, embeds }.
export const backends = JSON.parse(process.env.SWARM_BACKENDS ?? "[]");

export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

async function tell(server, orders) {
  const answer = await fetch(`${servers[server]}/fake`, { method: "POST", body: JSON.stringify(orders) });
  return answer.json();
}

/** Servers behave as ordered from now on; no order: well. */
export const order = (server, how = "") => tell(server, { default: how });

/** Until the last request at this server was left by who asked. */
export async function seenLeaving(server) {
  for (let tries = 0; tries < 200; tries += 1) {
    const { requests } = await tell(server, {});
    const asked = requests.filter((one) => one.method === "POST");
    if (asked.at(-1)?.disconnected_s) return true;
    await sleep(50);
  }
  return false;
}
