// Node's `ws`, the loop of its README: what another language reaches in one process.
const { WebSocketServer, WebSocket } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data) => {
    const frame = JSON.parse(data);
    const text = JSON.stringify(frame);
    if (frame.action !== "say") return socket.send(text);
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(text);
    }
  });
});
