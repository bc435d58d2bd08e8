/* The two switches of a page: its language and its theme. */

import { byId, locale, retranslate, show, store } from "./basics.js";

/* Lets the switches work, and shows the page in the language that was asked for. `redraw` is called after each
   change of it. */
export function wireSwitches(redraw) {
  const setLanguage = (language) => {
    locale.language = language;
    document.documentElement.lang = locale.tag;
    show(byId("language"), "otherLanguage");
    byId("language").lang = language === "zh" ? "en" : "zh-CN";
    retranslate();
    for (const template of document.querySelectorAll("template")) retranslate(template.content);
    redraw();
  };
  byId("language").addEventListener("click", () => {
    setLanguage(locale.language === "zh" ? "en" : "zh");
    store.set("language", locale.language);
  });
  byId("theme").addEventListener("click", switchTheme);
  const asked = new URLSearchParams(location.search).has("lang"); // by the address: that is stronger
  setLanguage((!asked && ["en", "zh"].find((each) => each === store.get("language"))) || locale.language);
}

function switchTheme() {
  const root = document.documentElement;
  const current = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = current === "dark" ? "light" : "dark";
  store.set("theme", root.dataset.theme);
}
