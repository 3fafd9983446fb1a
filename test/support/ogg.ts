import { oggChecksum } from '../../src/codec/ogg-opus.js';

export interface OggPage {
  readonly flags: number;
  readonly granules: bigint;
  readonly serial: number;
  readonly sequence: number;
}

/** Reads an Ogg file as RFC 3533, 6 says. @throws Error where it isn't one, or a checksum is wrong */
export function readOgg(file: Buffer): { pages: OggPage[]; packets: Buffer[] } {
  const pages: OggPage[] = [];
  const packets: Buffer[] = [];
  let parts: Buffer[] = [];
  for (let at = 0; at < file.length; ) {
    if (file.toString('latin1', at, at + 4) !== 'OggS' || file[at + 4] !== 0) throw new Error(`no page at ${at}`);
    const lacing = file.subarray(at + 27, at + 27 + (file[at + 26] ?? 0));
    const bodyAt = at + 27 + lacing.length;
    const end = bodyAt + lacing.reduce((sum, length) => sum + length, 0);
    const page = Buffer.from(file.subarray(at, end));
    page.writeUInt32LE(0, 22);
    if (oggChecksum(page) !== file.readUInt32LE(at + 22)) throw new Error(`wrong checksum at ${at}`);
    pages.push({
      flags: file[at + 5] ?? 0,
      granules: file.readBigUInt64LE(at + 6),
      serial: file.readUInt32LE(at + 14),
      sequence: file.readUInt32LE(at + 18),
    });
    let from = bodyAt;
    for (const length of lacing) {
      parts.push(file.subarray(from, from + length));
      from += length;
      if (length === 255) continue;
      packets.push(Buffer.concat(parts));
      parts = [];
    }
    at = end;
  }
  return { pages, packets };
}
