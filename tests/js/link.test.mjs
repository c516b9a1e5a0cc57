import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Link } from "../../static/js/link.js";

globalThis.location = { protocol: "http:", host: "test" };

class Socket {
  static made = [];
  constructor(url) {
    this.url = url;
    this.readyState = 0;
    this.sent = [];
    Socket.made.push(this);
  }
  connect() {
    this.readyState = 1;
    this.onopen();
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  close(code = 1006) {
    this.readyState = 3;
    this.onclose({ code, reason: "" });
  }
}

const robot = (revision, mode = "autonomous") => ({ type: "RobotState", robot: "arm-01", revision, connection: "online", heartbeat: { mode } });

function opened(t) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  t.after(() => mock.timers.reset());
  Socket.made = [];
  const events = [];
  const link = new Link("/ws/operator/", { socket: Socket, emit: (name, detail) => events.push([name, detail]) });
  link.open({ type: "Watch", every: true });
  Socket.made[0].connect();
  return { link, events, socket: Socket.made[0] };
}

test("it asks for the robots on every connection", (t) => {
  const { socket } = opened(t);
  assert.deepEqual(socket.sent[0], { type: "Watch", every: true });
  assert.equal(socket.url, "ws://test/ws/operator/");
});

test("an event at or below the snapshot's revision is ignored", (t) => {
  const { link, socket } = opened(t);
  socket.say({ type: "Snapshot", robots: [robot(5)], operator: "anna" });
  socket.say(robot(5, "holding"));
  socket.say(robot(4, "stopped"));
  assert.equal(link.robots.get("arm-01").heartbeat.mode, "autonomous");
  socket.say(robot(6, "holding"));
  assert.equal(link.robots.get("arm-01").heartbeat.mode, "holding");
});

test("a change of mode tells the fragments and a repeated state does not", (t) => {
  const { events, socket } = opened(t);
  socket.say({ type: "Snapshot", robots: [robot(1)], operator: "anna" });
  socket.say(robot(2));
  assert.ok(!events.some(([name]) => name === "fleet:arm-01"));
  socket.say(robot(3, "holding"));
  assert.ok(events.some(([name]) => name === "fleet:arm-01"));
  assert.ok(events.some(([name]) => name === "fleet:changed"));
});

test("a lost connection starts over with a new snapshot, also of lower revisions", (t) => {
  const { link, events, socket } = opened(t);
  socket.say({ type: "Snapshot", robots: [robot(900)], operator: "anna" });
  socket.close();
  assert.equal(link.online, false);
  assert.deepEqual(events.at(-1)[0], "sop:link");
  mock.timers.tick(400);
  Socket.made[1].connect();
  Socket.made[1].say({ type: "Snapshot", robots: [robot(1, "holding")], operator: "anna" });
  assert.equal(link.online, true);
  assert.equal(link.robots.get("arm-01").heartbeat.mode, "holding");
});

test("it waits longer after each failure, up to five seconds", (t) => {
  const { link } = opened(t);
  Socket.made[0].close();
  for (let i = 0; i < 12; i++) {
    mock.timers.tick(5000);
    Socket.made.at(-1).close();
  }
  assert.equal(link.retryMs, 5000);
});

test("nothing is sent into a closed socket and the caller is told", (t) => {
  const { link, socket } = opened(t);
  assert.equal(link.send({ type: "Ping", t_sender_ns: 1 }), true);
  socket.close();
  assert.equal(link.send({ type: "Ping", t_sender_ns: 1 }), false);
});

test("a link that was closed on purpose stays closed", (t) => {
  const { link } = opened(t);
  link.close();
  Socket.made[0].close();
  mock.timers.tick(60_000);
  assert.equal(Socket.made.length, 1);
});
