import type { CardedModel } from '../src/adapters/onnx/model-folder.js';
import type { HeldOut, HeldOutSize } from './held-out.js';

const [BEGIN, END] = ['<!-- make model writes from here -->', '<!-- to here -->'];

/** The page with what was measured in its place. @throws RangeError where the page has no such place */
export function withFigures(page: string, figures: string): string {
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (from < 0 || to < from) throw new RangeError(`The page has no place between ${BEGIN} and ${END}`);
  return `${page.slice(0, from + BEGIN.length)}\n\n${figures}\n\n${page.slice(to)}`;
}

/** What was measured, as Markdown. */
export function figuresOf({ card }: CardedModel, heldOut: HeldOut, size: HeldOutSize): string {
  const told = card.labels;
  const matrix = table(
    ['played', ...told, 'nothing'],
    heldOut.rows.map(({ name, told: counts, nothing }) => [name, ...told.map((one) => counts.get(one) ?? 0), nothing]),
  );
  const recalls = table(
    [
      'heard of',
      '0 to 10 dB',
      '10 to 20 dB',
      '20 to 30 dB',
      'alone',
      'in all',
      'median ms',
      '95 % within ms',
      'threshold',
    ],
    heldOut.recalls.map(({ label, bySnr, latenciesMs }) => {
      const sorted = [...latenciesMs].sort((a, b) => a - b);
      const at = (share: number): number => Math.round(sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN);
      const all = bySnr.reduce((sum, { heard, of }) => ({ heard: sum.heard + heard, of: sum.of + of }), {
        heard: 0,
        of: 0,
      });
      const cells = [...bySnr, all].map(({ heard, of }) => `${heard}/${of}`);
      return [label, ...cells, at(0.5), at(0.95), card.decisions[label]?.threshold ?? ''];
    }),
  );
  const streams = table(
    ['minutes of', 'minutes', ...told],
    heldOut.streams.map(({ name, minutes, told: counts }) => [
      name,
      minutes,
      ...told.map((one) => counts.get(one) ?? 0),
    ]),
  );
  return [
    `${card.file} ${card.version}, ${card.sizeBytes} bytes, SHA-256 \`${card.sha256}\`.`,
    `In how many of ${size.scenes} scenes each was told of:`,
    matrix,
    'How many were heard, by how far they stood above the background, and how long after their first sample:',
    recalls,
    'Of what was told in long stretches in which none of the events is (so all but `speech` is a false alarm):',
    streams,
  ].join('\n\n');
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n');
}
