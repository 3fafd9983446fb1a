import { spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'tap';
import { SymmetricRemote } from '../src/adapters/udp/symmetric-remote.js';
import { markAsVoice } from '../src/adapters/udp/traffic-class.js';
import { type UdpPort, UdpPortRange } from '../src/adapters/udp/udp-port.js';
import { ManualClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';

const LOOPBACK = '127.0.0.1';

async function peer(address = LOOPBACK): Promise<{ socket: Socket; port: number }> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.bind(0, address);
  await once(socket, 'listening');
  return { socket, port: socket.address().port };
}

/** A range of `count` ports from one on that was free a moment ago. */
async function someRange(count: number, address = LOOPBACK): Promise<{ address: string; from: number; to: number }> {
  const { socket, port } = await peer(address);
  const from = Math.min(port, 65_000);
  await new Promise<void>((resolve) => socket.close(resolve));
  return { address, from, to: from + count - 1 };
}

/** A port, with what reaches it as text; what begins with `rtp` is what it expects. */
async function openPort(range: UdpPortRange, clock = new ManualClock()) {
  const refused = new Counters<string>();
  const got: string[] = [];
  let tell = () => {};
  const port: UdpPort = await range.bind({
    clock,
    refused,
    listener: {
      datagram: (datagram) => {
        got.push(Buffer.from(datagram).toString());
        tell();
      },
      expects: (datagram) => Buffer.from(datagram).toString().startsWith('rtp'),
    },
  });
  /** Until `count` datagrams came, in total, or were refused. */
  const settled = async (count: number) => {
    const all = () => Object.values(refused.all()).reduce<number>((sum, count) => sum + (count ?? 0), got.length);
    while (all() < count) {
      await new Promise<void>((resolve) => {
        tell = resolve;
        setTimeout(resolve, 5);
      });
    }
  };
  return { port, got, refused, settled };
}

test('ports are taken in turn; a taken one is passed over; none left is said with the remedy', async (t) => {
  const address = await someRange(4);
  const range = new UdpPortRange(address);
  const opened: UdpPort[] = [];
  let fault: unknown;
  for (let i = 0; i < 5; i++) {
    try {
      opened.push((await openPort(range)).port);
    } catch (error) {
      fault = error;
    }
  }
  const ports = opened.map(({ local }) => local.port);
  t.equal(new Set(ports).size, ports.length);
  t.ok(ports.length > 0 && ports.every((port) => port >= address.from && port <= address.to));
  t.match(fault, { code: 'port-taken', remedy: /rtp\.ports/ });
  t.ok(fault instanceof AppError);

  const [first] = opened;
  await first?.close();
  const again = await openPort(range);
  t.equal(again.port.local.port, first?.local.port, 'a freed port can be had again');
  await Promise.all([...opened.slice(1), again.port].map((port) => port.close()));
  await t.rejects(openPort(new UdpPortRange({ address: '192.0.2.1', from: 40_000, to: 40_000 })), {
    code: 'address-absent',
    remedy: /rtp\.address/,
  });
});

test('the remote is latched once, early, to what is expected (RFC 4961)', async (t) => {
  const rtp = () => true;
  const other = () => false;
  const remote = new SymmetricRemote();
  t.equal(remote.admits('192.0.2.1', 5_000, 0, rtp), false, 'nobody before an address is named');
  remote.name({ address: '192.0.2.1', port: 5_000 }, 0);
  t.equal(remote.admits('192.0.2.1', 5_000, 1, other), true, 'RTCP of the named address');
  t.equal(remote.admits('192.0.2.9', 7_000, 2, other), false, 'what is not expected latches nothing');
  t.equal(remote.admits('192.0.2.9', 7_000, 3, rtp), true, 'the first expected packet does');
  t.same(remote.current, { address: '192.0.2.9', port: 7_000 });
  t.equal(remote.admits('192.0.2.1', 5_000, 4, rtp), false, 'once');
  remote.name({ address: '192.0.2.1', port: 5_000 }, 5);
  t.same(remote.current, { address: '192.0.2.9', port: 7_000 }, 'the same name again changes nothing');
  remote.name({ address: '192.0.2.2', port: 5_000 }, 6);
  t.same(remote.current, { address: '192.0.2.2', port: 5_000 }, 'another begins anew');
  t.equal(remote.admits('192.0.2.2', 5_000, 7, rtp), true);
  t.equal(remote.admits('192.0.2.9', 7_000, 8, rtp), false, 'the named address was heard: no other may come');
  remote.name({ address: '2001:DB8:0:0::1', port: 9 }, 10);
  t.equal(remote.admits('192.0.2.9', 7_000, 5_011, rtp), false, 'nor later than 5 s');
  t.equal(remote.admits('2001:db8::1', 9, 5_012, rtp), true, 'an IPv6 address is the same however it is written');
});

test('over real sockets: both ways, foreign packets counted, errors counted', async (t) => {
  const range = new UdpPortRange(await someRange(20));
  const [near, stranger] = [await peer(), await peer()];
  const { port, got, refused, settled } = await openPort(range);
  const to = (socket: Socket, text: string | Buffer) => socket.send(text, port.local.port, LOOPBACK);

  port.send(Buffer.from('nowhere yet'));
  to(near.socket, 'rtp early');
  await settled(1);
  t.same(refused.all(), { 'before-start': 1 });

  port.towards({ address: LOOPBACK, port: near.port });
  to(near.socket, 'rtp 1');
  await settled(2);
  to(stranger.socket, 'rtp foreign');
  await settled(3);
  to(near.socket, Buffer.alloc(3_000));
  await settled(4);
  t.same(got, ['rtp 1']);
  t.same(refused.all(), { 'before-start': 1, 'foreign-address': 1, 'datagram-too-large': 1 });
  const answer = once(near.socket, 'message');
  port.send(Buffer.from('answer'));
  const [text, from] = (await answer) as [Buffer, { port: number }];
  t.same([text.toString(), from.port], ['answer', port.local.port], 'from the port that it is sent to');

  // A goodbye that is sent right before the end still leaves.
  const goodbye = once(near.socket, 'message');
  port.send(Buffer.from('goodbye'));
  await port.close();
  t.equal(String((await goodbye)[0]), 'goodbye');
  t.doesNotThrow(() => port.send(Buffer.from('after the end')));

  const lost = await openPort(range);
  lost.port.towards({ address: LOOPBACK, port: near.port });
  lost.port.send(Buffer.alloc(70_000));
  await lost.settled(1);
  t.same(lost.refused.all(), { 'send-EMSGSIZE': 1 });
  await lost.port.close();
  near.socket.close();
  stranger.socket.close();
});

test('a stall of the process loses nothing', async (t) => {
  const { port, got, refused, settled } = await openPort(new UdpPortRange(await someRange(20)));
  const near = await peer();
  port.towards({ address: LOOPBACK, port: near.port });
  // As many packets as 1 s of 20 ms packets, all of them in the socket before this process reads one.
  for (let i = 0; i < 50; i++) near.socket.send(`rtp ${i} ${'x'.repeat(80)}`, port.local.port, LOOPBACK);
  await settled(50);
  t.same(got.length, 50);
  t.same(refused.all(), {});
  await port.close();
  near.socket.close();
});

/** Receives one datagram at an address, and prints its traffic class, which dgram can't tell. */
const TRAFFIC_CLASS_OF_ONE = `
import socket, sys
six = ':' in sys.argv[1]
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
if six: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
else: s.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
s.bind((sys.argv[1], 0))
s.settimeout(10)
print(s.getsockname()[1], flush=True)
data = s.recvmsg(64, 64)[1][0][2]
print(int.from_bytes(data[:4], sys.byteorder) if six else data[0])`;

test('what is sent is marked Expedited Forwarding, by IPv4 and IPv6', async (t) => {
  for (const address of [LOOPBACK, '::1']) {
    const family = address === LOOPBACK ? 'IPv4' : 'IPv6';
    const range = await someRange(20, address).catch(() => null);
    if (range === null) {
      t.comment(`this machine has no ${family}`);
      continue;
    }
    const { port } = await openPort(new UdpPortRange(range));
    const listener = spawn('python3', ['-c', TRAFFIC_CLASS_OF_ONE, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => listener.kill('SIGKILL'));
    let said = '';
    for await (const text of listener.stdout.setEncoding('utf8')) {
      if (said === '') {
        port.towards({ address, port: Number(text) });
        port.send(Buffer.from('rtp'));
      }
      said += text;
    }
    t.equal(Number(said.trim().split('\n')[1]), 46 << 2, `${family}: the traffic class that came`);
    await port.close();
  }
  const { port } = await openPort(new UdpPortRange(await someRange(20)));
  const elsewhere = { address: port.local.address, port: (port.local.port % 65_535) + 1 };
  await port.close();
  t.equal(markAsVoice(port.local), 'ENOENT', 'a socket that is no more');
  t.not(markAsVoice(elsewhere), null);
  t.equal(markAsVoice({ address: 'no address', port: 1 }), 'EINVAL');
});
