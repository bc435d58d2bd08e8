/** Whether an event on that topic is for a room whose name is a filter, with + and # as in MQTT 3.1.1, section 4.7. */
export function fits(filter: string, topic: unknown): boolean {
  if (typeof topic !== "string" || !/[+#]/.test(filter)) return false;
  const wanted = filter.split("/");
  const levels = topic.split("/");
  if (topic.startsWith("$") && (wanted[0] === "+" || wanted[0] === "#")) return false;
  for (const [at, level] of wanted.entries()) {
    if (level === "#") return true;
    if (at === levels.length || (level !== "+" && level !== levels[at])) return false;
  }
  return wanted.length === levels.length;
}
