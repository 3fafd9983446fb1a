/** In a network namespace of its own: two sockets talk through an impaired network; says what each heard, and of whom, as JSON. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { ImpairedNetwork } from '../../src/lab/impaired-network.js';

const LOOPBACK = '127.0.0.1';
const [door, indoor] = [41_000, 41_020];
const PACKETS = 200;

async function party(port: number, peer: number) {
  const heard: string[] = [];
  const from = new Set<number>();
  const socket = createSocket('udp4').on('message', (packet, { port: sender }) => {
    heard.push(packet.toString());
    from.add(sender);
  });
  socket.bind(port, LOOPBACK);
  await once(socket, 'listening');
  const say = (text: string) => socket.send(text, peer, LOOPBACK);
  return { heard, from, say, close: () => socket.close() };
}

const lossPct = Number(process.argv[2]);
const network = await ImpairedNetwork.start({ lossPct, jitterMs: 5 }, ImpairedNetwork.firstPorts(door));
const [a, b] = [await party(door, indoor), await party(indoor, door)];
for (let i = 0; i < PACKETS; i++) {
  a.say(`a${i}`);
  b.say(`b${i}`);
  await new Promise((resolve) => setTimeout(resolve, 2));
}
const told = () => network.count('passed') + network.count('lost');
while (told() < 2 * PACKETS) await new Promise((resolve) => setTimeout(resolve, 10));
await new Promise((resolve) => setTimeout(resolve, 50));
const [lost, carried] = [network.count('lost'), network.count('received')];
await network.stop();
const before = b.heard.length;
a.say('straight');
while (b.heard.length === before) await new Promise((resolve) => setTimeout(resolve, 10));
process.stdout.write(
  JSON.stringify({ atDoor: a.heard, atIndoor: b.heard, from: [[...a.from], [...b.from]], lost, carried }),
);
a.close();
b.close();
