// The operator socket: one a page. Every message becomes a DOM event on document.body.
//
//   sop:link       {online, retryInMs}     the connection came or went
//   sop:state      RobotState              a newer state of one robot
//   sop:telemetry  RobotTelemetry
//   sop:takeover   TakeoverAnswer
//   sop:asked      ControlAsked            who asks for the control of a robot
//   sop:answer     CommandAnswer
//   sop:refused    Refused
//   sop:fleet      FleetState              what holds for the whole fleet
//   sop:correction CorrectionState         what people say now of one correction
//   sop:help       HelpState               the newest request for help of one robot
//   fleet:<robot>  RobotState              something other than a tick changed: fragments reload
//   fleet:changed                          the same, of any robot
//
// On a lost connection it simply starts over: a new socket, a new snapshot, no second code path.
import { changed } from "./facts.js";

const FIRST_RETRY_MS = 300;
const LONGEST_RETRY_MS = 5000;
const PING_MS = 2000;
// Without an answer for this long the connection is taken for dead: TCP alone may need minutes.
const SILENT_MS = 6000;

export class Link {
  /**
   * @param {string} path of the socket
   * @param {{socket?: typeof WebSocket, emit?: (name: string, detail: any) => void}} [parts] for tests
   */
  constructor(path, parts = {}) {
    this.path = path;
    this.Socket = parts.socket ?? globalThis.WebSocket;
    this.emit = parts.emit ?? ((name, detail) => document.body.dispatchEvent(new CustomEvent(name, { detail })));
    /** @type {Map<string, object>} newest state of each robot */
    this.robots = new Map();
    /** @type {Map<string, object>} newest request for help of each robot that had one */
    this.help = new Map();
    this.operator = "";
    this.role = "";
    this.online = false;
    this.rttMs = NaN;
    this.clockOffsetMs = 0;
    this.watch = null;
    this.retryMs = FIRST_RETRY_MS;
    this.heardMs = 0;
  }

  /** Start, and keep going until `close`. @param {object} watch the Watch message, sent on every connection */
  open(watch) {
    this.watch = watch;
    this.closed = false;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new this.Socket(`${scheme}://${location.host}${this.path}`);
    this.socket = socket;
    socket.onopen = () => this.send(this.watch);
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => {
      if (socket === this.socket) this.lost(event.code, event.reason);
    };
  }

  /** Stop for good. */
  close() {
    this.closed = true;
    clearInterval(this.pinging);
    this.socket?.close();
  }

  /** @param {object} message @returns {boolean} whether it went out */
  send(message) {
    if (this.socket?.readyState !== 1) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** The server's wall clock in milliseconds: what ages are measured against. */
  now() {
    return Date.now() + this.clockOffsetMs;
  }

  receive(message) {
    this.heardMs = performance.now();
    switch (message.type) {
      case "Snapshot":
        this.operator = message.operator;
        this.role = message.operator_role ?? "";
        this.robots = new Map();
        this.help = new Map((message.help ?? []).map((state) => [state.robot, state]));
        this.cameOnline();
        for (const state of message.robots) this.take(state, true);
        this.emit("sop:snapshot", message);
        break;
      case "RobotState":
        this.take(message, false);
        break;
      case "HelpState":
        this.takeHelp(message);
        break;
      case "RobotTelemetry":
        this.emit("sop:telemetry", message);
        break;
      case "TakeoverAnswer":
        this.emit("sop:takeover", message);
        break;
      case "ControlAsked":
        this.emit("sop:asked", message);
        break;
      case "CorrectionState":
        this.emit("sop:correction", message);
        break;
      case "CommandAnswer":
        this.emit("sop:answer", message);
        break;
      case "FleetState":
        this.emit("sop:fleet", message);
        break;
      case "Refused":
        this.emit("sop:refused", message);
        break;
      case "Pong":
        this.rttMs = performance.now() - message.t_sender_ns / 1e6;
        this.clockOffsetMs = message.t_wall_ns / 1e6 + this.rttMs / 2 - Date.now();
        this.emit("sop:rtt", { rttMs: this.rttMs });
        break;
    }
  }

  /** Take a robot's state unless a newer one is known. */
  take(state, fromSnapshot) {
    const known = this.robots.get(state.robot);
    if (known && state.revision <= known.revision) return;
    this.robots.set(state.robot, state);
    this.emit("sop:state", state);
    if (!fromSnapshot && changed(known, state)) {
      this.emit(`fleet:${state.robot}`, state);
      this.emit("fleet:changed", state);
    }
  }

  /** Take a robot's request for help unless a newer one is known. */
  takeHelp(state) {
    if (state.revision <= (this.help.get(state.robot)?.revision ?? -1)) return;
    this.help.set(state.robot, state);
    this.emit("sop:help", state);
  }

  cameOnline() {
    this.online = true;
    this.retryMs = FIRST_RETRY_MS;
    this.emit("sop:link", { online: true, retryInMs: 0 });
    clearInterval(this.pinging);
    const ping = () => {
      if (performance.now() - this.heardMs > SILENT_MS) this.socket.close();
      this.send({ type: "Ping", t_sender_ns: Math.round(performance.now() * 1e6) });
    };
    ping();
    this.pinging = setInterval(ping, PING_MS);
  }

  lost(code, reason) {
    clearInterval(this.pinging);
    this.online = false;
    this.rttMs = NaN;
    this.emit("sop:link", { online: false, code, reason, retryInMs: this.retryMs });
    if (this.closed) return;
    setTimeout(() => this.closed || this.open(this.watch), this.retryMs);
    this.retryMs = Math.min(LONGEST_RETRY_MS, this.retryMs * 1.7);
  }
}

let shared = null;

/** The page's one link, opened by whoever asks first. @returns {Link} */
export function pageLink() {
  shared ??= new Link(document.body.dataset.operatorSocket);
  return shared;
}
