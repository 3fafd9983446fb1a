import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { LOOPBACK_DEVICE, networkToolsEnv, requireOwnNetwork } from './own-network.js';

/**
 * Classic BPF as tc takes it: the byte at 23, which is the protocol of an IPv4 packet behind an Ethernet header; where it is 17,
 * TC_ACT_SHOT (2), else TC_ACT_OK (0). The sender sees nothing of it, as on a network.
 */
const DROP_UDP = '4,48 0 0 23,21 0 1 17,6 0 0 2,6 0 0 0';
const LOOK_MS = 100;

/**
 * Cuts and restores UDP in the kernel, on the loopback interface of a network namespace of this process's own: whatever is sent
 * over IPv4 by UDP is lost there, TCP is not touched.
 */
export class UdpCut {
  /** @throws AppError `not-alone` where this machine's own network would be cut, `tc-failed` */
  static async prepare(): Promise<UdpCut> {
    requireOwnNetwork('UDP is not cut');
    await tc('qdisc', 'replace', 'dev', LOOPBACK_DEVICE, 'clsact');
    return new UdpCut();
  }

  /** @throws AppError `tc-failed`, `not-cut` where UDP goes on all the same */
  async cut(): Promise<void> {
    await tc('filter', 'add', 'dev', LOOPBACK_DEVICE, 'egress', 'bpf', 'da', 'bytecode', DROP_UDP);
    if (await carries()) throw new AppError('not-cut', 'UDP goes on, though it was cut');
  }

  /** @throws AppError `tc-failed`, `not-restored` */
  async restore(): Promise<void> {
    await tc('filter', 'del', 'dev', LOOPBACK_DEVICE, 'egress');
    if (!(await carries())) throw new AppError('not-restored', 'UDP does not come back');
  }
}

/** Whether a datagram of ours goes from one port of this machine to another. */
async function carries(): Promise<boolean> {
  const [from, to] = [createSocket('udp4'), createSocket('udp4')];
  try {
    to.bind(0, '127.0.0.1');
    await once(to, 'listening');
    const arrived = new Promise<boolean>((resolve) => {
      to.once('message', () => resolve(true));
      systemClock.after(LOOK_MS, () => resolve(false));
    });
    from.send('x', to.address().port, '127.0.0.1', () => {});
    return await arrived;
  } finally {
    from.close();
    to.close();
  }
}

async function tc(...args: string[]): Promise<void> {
  await promisify(execFile)('tc', args, { env: networkToolsEnv() }).catch((error: unknown) => {
    throw new AppError('tc-failed', `tc ${args.slice(0, 2).join(' ')}: ${errorText(error)}`, {
      remedy: 'It comes with iproute2, and needs a kernel with sch_ingress and cls_bpf',
    });
  });
}
