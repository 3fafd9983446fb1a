/** Where a session's datagrams, RTP and RTCP, go to. Takes each over; nothing of it throws. */
export interface PacketSink {
  send(datagram: Uint8Array): void;
}

/** Who is told what came of the far end. */
export interface PacketListener {
  /** The datagram is the listener's to keep. */
  datagram(datagram: Uint8Array, arrivalMs: number): void;
  /** Whether a datagram from elsewhere is what the session waits for. */
  expects(datagram: Uint8Array): boolean;
}

/** One session's way to its far end and back, over UDP or MQTT; made with its listener. */
export interface PacketPath extends PacketSink {
  /** What was sent still leaves. */
  close(): Promise<void>;
}
