/** The package `alsa-capture` 0.3.0, as it behaves; see AlsaMicrophone for what must be minded. */
declare module 'alsa-capture' {
  class AlsaCapture {
    constructor(options: {
      device: string;
      channels: number;
      format: 'S16_LE';
      rate: number;
      /** Samples of each `audio` event, or what is nearest to it for the card. */
      periodSize: number;
    });
    /** Orders the thread to end; it does after the current read. Then `close` follows. */
    close(): void;
    /** One period, after every read, also after one that failed: then it is what the buffer held before. */
    on(event: 'audio', listener: (data: Uint8Array) => void): this;
    /** The next `audio` holds only this many samples; the rest of it is old. A number in text. */
    on(event: 'shortRead', listener: (samples: string) => void): this;
    /** The next `audio` holds nothing new. */
    on(event: 'overrun', listener: () => void): this;
    on(event: 'readError', listener: (reason: string) => void): this;
    on(event: 'rateDeviating', listener: (rateHz: string) => void): this;
    /** Opening failed; the thread has ended, `close` does not follow. */
    on(event: 'error', listener: (error: Error) => void): this;
    /** The thread has ended, the card is free. */
    on(event: 'close', listener: () => void): this;
  }
  export = AlsaCapture;
}
