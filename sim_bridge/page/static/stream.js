// The WebSocket to the page's server: JSON messages, pictures gathered into ticks, and coming back after a break.

const FIRST_WAIT = 500; // ms until the first attempt to come back
const LONGEST_WAIT = 5000;

/** Splits a binary message: 4 bytes length of the header, the header as JSON, the payload. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { header, payload: new Uint8Array(buffer, 4 + length) };
}

export class Stream {
  /**
   * @param handlers open(), close(), message(object), still(header, payload), async tick(Map panel -> {header, payload}, mayDraw),
   * where mayDraw() says whether to draw it after all: false once a newer one was drawn or the connection is another.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.wait = FIRST_WAIT;
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/ws`);
    this.socket.binaryType = "arraybuffer";
    this.parts = new Map();
    this.drawn = 0; // the server counts the ticks of every connection from 0
    this.socket.onopen = () => {
      this.wait = FIRST_WAIT;
      this.handlers.open();
    };
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = () => {
      this.handlers.close();
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
    };
  }

  send(order) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(order));
  }

  take(data) {
    if (typeof data === "string") {
      this.handlers.message(JSON.parse(data));
      return;
    }
    const { header, payload } = unpack(data);
    if (header.type === "still") {
      this.handlers.still(header, payload);
      return;
    }
    this.parts.set(header.kind, { header, payload });
    if (this.parts.size === header.of) {
      const parts = this.parts;
      this.parts = new Map();
      this.show(parts, header.tick);
    }
  }

  async show(parts, tick) {
    const socket = this.socket; // while it is decoded, the connection may become another
    const mayDraw = () => {
      if (socket !== this.socket || tick < this.drawn) return false;
      this.drawn = tick;
      return true;
    };
    try {
      await this.handlers.tick(parts, mayDraw);
    } finally {
      if (socket === this.socket) this.send({ op: "shown", tick }); // also after an error: the next picture may be whole
    }
  }
}
