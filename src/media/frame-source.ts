/** Something that can be heard: it is asked for 10 ms at a time, at the speaker's pace. */
export interface FrameSource {
  /** @returns 10 ms of samples, valid until the next call; null where there is nothing to hear */
  pull(nowMs: number): Int16Array | null;
}
