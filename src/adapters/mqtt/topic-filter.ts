/** Whether a message may be published to it: no wildcard, no NUL (MQTT 5, 4.7). */
export function isTopicName(topic: string): boolean {
  return topic.length > 0 && topic.length <= 512 && !/[+#\0]/.test(topic);
}

/** Whether an MQTT topic filter (`+`, `#`; MQTT 5, 4.7.1) takes in a topic. */
export function matchesFilter(filter: string, topic: string): boolean {
  const filterLevels = filter.split('/');
  const topicLevels = topic.split('/');
  for (const [index, level] of filterLevels.entries()) {
    if (level === '#') return true;
    const other = topicLevels[index];
    if (other === undefined || (level !== '+' && level !== other)) return false;
  }
  return filterLevels.length === topicLevels.length;
}
