/** Whether an event on that topic is for a room whose name is a filter, with + and # as in MQTT 3.1.1, section 4.7. */
export function fits(filter: string, topic: string): boolean {
  if (!/[+#]/.test(filter) || (topic[0] === "$" && /^[+#]/.test(filter))) return false;
  const wanted = filter.split("/");
  const levels = topic.split("/");
  if (wanted.at(-1) === "#") {
    wanted.pop();
    levels.splice(wanted.length);
  }
  return wanted.length === levels.length && wanted.every((level, at) => level === "+" || level === levels[at]);
}
