/** A room worker gone wrong, for the gateway's tests: how is said by the environment. */
const mode = process.env.ENTRYPHONE_TEST_WORKER ?? '';
const tell = (message: unknown) => process.send?.(message, undefined, undefined, () => {});
process.on('message', (message: { type: string; seq?: number; request?: number }) => {
  if (mode === 'mute') return;
  if (message.type === 'init') tell({ type: 'ready', pid: process.pid });
  if (message.type === 'ping' && mode !== 'deaf') {
    tell({ type: 'pong', seq: message.seq, memoryRssBytes: 1, rooms: 0, refused: 0 });
  }
  if (mode === 'babbling') for (const bad of ['?', null, { type: 'pong' }, { type: 'done', request: 999 }]) tell(bad);
});
process.on('disconnect', () => process.exit(0));
