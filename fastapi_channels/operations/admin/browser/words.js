/* Numbers and times in words. */

import { locale } from "./basics.js";

export const count = (number) => number.toLocaleString(locale.tag);

export const rate = (number) => (number >= 100 ? count(Math.round(number)) : number.toFixed(1));

/* "14:03:22", with the day before it where that is another one than today. */
export function moment(seconds) {
  if (!seconds) return "—";
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString(locale.tag, { hour12: false });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString(locale.tag)} ${time}`;
}

/* "3 d 4 h", "2 h 5 min", "3 min" or "12 s". */
export function lasting(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor((seconds % 86400) / 3600), Math.floor((seconds % 3600) / 60)];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

export const hrefOfRoom = ({ scope, name, topics }) => `#${topics ? "filter" : "room"}/${encodeURIComponent(scope)}/${encodeURIComponent(name)}`;
export const hrefOfUser = (user) => `#user/${encodeURIComponent(user)}`;
