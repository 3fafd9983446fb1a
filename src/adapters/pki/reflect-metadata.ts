/**
 * The three functions of the Reflect metadata proposal that the X.509 package's dependency injection calls when it is
 * loaded: to be imported before it.
 */
type Key = string | symbol;

const kept = new WeakMap<object, Map<Key, unknown>>();

function getOwnMetadata(key: Key, target: object): unknown {
  return kept.get(target)?.get(key);
}

function getMetadata(key: Key, target: object): unknown {
  for (let holder: object | null = target; holder !== null; holder = Object.getPrototypeOf(holder)) {
    if (kept.get(holder)?.has(key)) return getOwnMetadata(key, holder);
  }
  return undefined;
}

function defineMetadata(key: Key, value: unknown, target: object): void {
  const own = kept.get(target) ?? new Map<Key, unknown>();
  kept.set(target, own.set(key, value));
}

if (!('getMetadata' in Reflect)) Object.assign(Reflect, { getOwnMetadata, getMetadata, defineMetadata });
