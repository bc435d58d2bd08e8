"""Accessibility, asked of the page as it is rendered."""

from playwright.async_api import Page

UNLABELLED = """() => {
  const visible = (element) => element.checkVisibility({ visibilityProperty: true });
  const named = (element) =>
    element.labels?.length || element.getAttribute("aria-label")?.trim() ||
    (element.localName === "button" && element.textContent.trim());
  return [...document.querySelectorAll("input, textarea, select, button, output")]
    .filter((element) => visible(element) && !named(element))
    .map((element) => element.outerHTML);
}"""
"""The visible controls without a name."""

# A colour as the browser computes it is "rgb(…)", "rgba(…)" or "color(srgb …)": a canvas reads them all.
FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const painted = new Map(); // most texts have the colours of others
  const paint = (colors) => {
    const known = painted.get(colors.join());
    if (known) return known;
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    const seen = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    painted.set(colors.join(), seen);
    return seen;
  };
  const linear = (byte) => (byte <= 10 ? byte / 3294.6 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const contrast = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = new Map([[null, ["Canvas"]]]);
  const backgrounds = (element) => {
    if (!behind.has(element)) {
      behind.set(element, [...backgrounds(element.parentElement), getComputedStyle(element).backgroundColor]);
    }
    return behind.get(element);
  };
  const speaks = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const shown = (element) =>
    element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && element.offsetWidth > 1 &&
    !element.closest("[aria-disabled=true], noscript, option");
  return [...document.body.querySelectorAll("*")]
    .filter((element) => (speaks(element) || element.placeholder) && shown(element))
    .flatMap((element) => {
      const style = getComputedStyle(element, element.placeholder && !element.value ? "::placeholder" : null);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      const under = backgrounds(element);
      const ratio = contrast(paint([...under, style.color]), paint(under));
      return ratio >= (large ? 3 : 4.5) ? [] : [`${ratio.toFixed(2)} ${element.outerHTML}`];
    });
}"""
"""The visible texts whose contrast is below WCAG 2 level AA, with their contrast."""

SCROLLING = """() => {
  const { scrollWidth } = document.documentElement;
  return scrollWidth === innerWidth ? [] : [`${scrollWidth} in a window of ${innerWidth}`];
}"""
"""A page that is wider than its window, in pixels."""

OVERFLOWING = """() => [...document.querySelectorAll("*")]
  .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth)
  .filter((element) => {
    const { display, overflowX } = getComputedStyle(element);
    return display !== "inline" && overflowX !== "hidden";
  })
  .map((element) => element.outerHTML)"""
"""The visible elements whose content is wider than they are."""

# A long name may be broken anywhere; nothing but its length tells it from a word such as "ready".
BROKEN = """() => [...document.querySelectorAll("td .cell, th")].filter((each) => each.checkVisibility())
  .flatMap((element) => {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), broken = [];
    while (walker.nextNode()) {
      for (const { 0: word, index } of walker.currentNode.data.matchAll(/(?<!\\S)[\\w.:]{2,14}(?!\\S)/g)) {
        const range = document.createRange();
        range.setStart(walker.currentNode, index);
        range.setEnd(walker.currentNode, index + word.length);
        const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
        if (lines.size > 1) broken.push(word);
      }
    }
    return broken;
  })"""
"""The short words in tables that do not stand in one line."""

# What is focused, and whether one can see it: by an outline of its own or of the label around it.
FOCUSED = """() => {
  const element = document.activeElement;
  const outlined = [element, element.closest("label")].some((one) => {
    const { outlineStyle, outlineWidth } = one ? getComputedStyle(one) : {};
    return one && outlineStyle !== "none" && outlineWidth !== "0px";
  });
  return { id: element.id || element.value || element.localName, visible: outlined };
}"""


async def faults(page: Page, *scripts: str) -> list[str]:
    """What the scripts find, which are asked in one turn."""
    return await page.evaluate(f"() => [{', '.join(f'...({script})()' for script in scripts)}]")


async def tab_stops(page: Page, limit: int = 40) -> list[str]:
    """The ids of what the Tab key reaches, from the focused element on until it comes round.

    Raises:
        AssertionError: the focus on one of them cannot be seen.
    """
    stops: list[str] = []
    for _ in range(limit):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(FOCUSED)
        if focused["id"] == "body":  # on the way round, the browser's own controls are one stop
            continue
        if focused["id"] in stops:
            break
        assert focused["visible"], f"no visible focus on {focused['id']}"
        stops.append(focused["id"])
    return stops
