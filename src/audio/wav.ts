import { AppError } from '../core/errors.js';

/** Mono PCM with its rate, as read from or written to a WAV file. */
export interface Recording {
  readonly samples: Int16Array;
  readonly rateHz: number;
}

const HEADER_BYTES = 44;
const PCM = 1;

function invalid(what: string): AppError {
  return new AppError('wav-invalid', `Not a usable WAV file: ${what}`, { remedy: 'Use 16-bit PCM, mono or stereo' });
}

/**
 * Reads a RIFF WAVE file of 16-bit PCM (Microsoft and IBM, "Multimedia Programming Interface", 1991); of stereo the left
 * channel is taken. A data chunk that says 0xFFFFFFFF or 0x7FFFF000 and more, as programs that write to a pipe leave it, reaches to
 * the end of the file.
 * @throws AppError `wav-invalid`
 */
export function readWav(file: Uint8Array): Recording {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const tag = (at: number) => String.fromCharCode(...file.subarray(at, at + 4));
  if (file.byteLength < 12 || tag(0) !== 'RIFF' || tag(8) !== 'WAVE') throw invalid('no RIFF WAVE header');

  let format: { channels: number; rateHz: number } | undefined;
  for (let at = 12; at + 8 <= file.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    const body = at + 8;
    if (tag(at) === 'fmt ') {
      if (size < 16 || body + 16 > file.byteLength) throw invalid('the format chunk is cut off');
      const channels = view.getUint16(body + 2, true);
      const rateHz = view.getUint32(body + 4, true);
      if (view.getUint16(body, true) !== PCM || view.getUint16(body + 14, true) !== 16) throw invalid('not 16-bit PCM');
      if (channels < 1 || channels > 2) throw invalid(`${channels} channels`);
      if (rateHz < 4_000 || rateHz > 384_000) throw invalid(`a rate of ${rateHz} Hz`);
      format = { channels, rateHz };
    } else if (tag(at) === 'data') {
      if (format === undefined) throw invalid('data before its format');
      const streamed = size >= 0x7fff_0000;
      if (!streamed && body + size > file.byteLength) throw invalid('the data is cut off');
      const dataBytes = streamed ? file.byteLength - body : size;
      const samples = new Int16Array(Math.floor(dataBytes / (2 * format.channels)));
      for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(body + i * 2 * format.channels, true);
      return { samples, rateHz: format.rateHz };
    }
    at = body + size + (size % 2);
  }
  throw invalid('no data chunk');
}

/** The bytes of a mono 16-bit PCM WAV file. */
export function writeWav(recording: Recording): Uint8Array {
  const dataBytes = recording.samples.length * 2;
  const file = new Uint8Array(HEADER_BYTES + dataBytes);
  const view = new DataView(file.buffer);
  const tag = (at: number, text: string) => {
    for (let i = 0; i < text.length; i++) file[at + i] = text.charCodeAt(i);
  };
  tag(0, 'RIFF');
  view.setUint32(4, HEADER_BYTES - 8 + dataBytes, true);
  tag(8, 'WAVE');
  tag(12, 'fmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, PCM, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, recording.rateHz, true);
  view.setUint32(28, recording.rateHz * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  tag(36, 'data');
  view.setUint32(40, dataBytes, true);
  for (let i = 0; i < recording.samples.length; i++) {
    view.setInt16(HEADER_BYTES + i * 2, recording.samples[i] ?? 0, true);
  }
  return file;
}
