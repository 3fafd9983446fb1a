import type { Run } from './report.js';

interface TableRows {
  readonly head: string[];
  readonly rows: (string | number)[][];
}

/** Tables of the sections about what is heard. */
export function mediaTables({ collections, playout, quality, codec }: Omit<Run, 'forwarding'>): TableRows[] {
  const tables: TableRows[] = [];
  if (collections !== undefined) {
    const row = (name: string, { collections: all, longestMs, over5Ms }: typeof collections.door) => [
      name,
      all,
      longestMs.toFixed(2),
      over5Ms,
    ];
    tables.push({
      head: [
        `collections in ${collections.seconds} s of talk`,
        'number',
        'longest since its start, ms',
        'over 5 ms (aim: 0)',
      ],
      rows: [row('media, door', collections.door), row('media, indoor', collections.indoor)],
    });
  }
  if (playout !== undefined) {
    const { traces, concealedMs, better } = playout;
    const rows = traces.map(({ trace, lostMs, ours, gstreamer }) =>
      [
        trace,
        lostMs,
        ours.concealedMs,
        gstreamer.concealedMs,
        ours.meanDelayMs,
        gstreamer.meanDelayMs,
        ours.stretchedMs,
      ].map((cell) => (typeof cell === 'number' ? Math.round(cell) : cell)),
    );
    const sums = [Math.round(concealedMs.ours), Math.round(concealedMs.gstreamer)];
    tables.push({
      head: ['concealed, ms', 'lost', 'ours', 'GStreamer', 'delay, ms: ours', 'GStreamer', 'stretched, ms'],
      rows: [...rows, ['in sum', '', ...sums, '', '', `less on ${better} of ${traces.length} (aim: 9)`]],
    });
  }
  if (quality !== undefined) {
    tables.push({
      head: [
        `MOS by a model of listening (rank correlation with PESQ ${quality.rankCorrelation})`,
        'kbit/s',
        ...quality.conditions,
      ],
      rows: quality.schemes.map(({ name, kbitPerS, mos }) => [name, kbitPerS, ...mos.map((one) => one.toFixed(2))]),
    });
  }
  if (codec !== undefined) {
    tables.push({
      head: [
        'encoder, 24 kbit/s',
        'complexity',
        'µs a packet',
        'kbit/s',
        'MOS',
        'FEC for 10 %: kbit/s',
        'MOS',
        'MOS at 10 % loss',
      ],
      rows: codec.engines.map(({ engine, complexity, encodeUs, kbitPerS, mos, fecKbitPerS, fecMos, fecLossyMos }) => [
        engine,
        complexity,
        encodeUs,
        kbitPerS,
        mos.toFixed(2),
        fecKbitPerS,
        fecMos.toFixed(2),
        fecLossyMos.toFixed(2),
      ]),
    });
  }
  return tables;
}
