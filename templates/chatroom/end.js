/* The end of a list that scrolls: what is shown of the list stays there until its reader scrolls up. */

const AT_END = 40; // px from the end that are the end

class End {
  #list;
  #following;
  #top = 0; // px, as it was last seen
  #waiting = false;

  /* `moved` is called when the list was scrolled, by whomever. */
  constructor(list, moved = () => {}) {
    this.#list = list;
    list.addEventListener("scroll", () => {
      this.#look();
      moved();
    }, { passive: true });
    new ResizeObserver(() => this.keep()).observe(list);
    this.follow();
  }

  /* Whether the reader is there. */
  get following() {
    return this.#following;
  }

  /* Goes there, wherever the reader is. */
  follow() {
    this.#set(true);
    this.keep();
  }

  /* After a change of the list. It is moved once before the page is drawn: to ask for the height lays all out, which
     a flood must not do. */
  keep() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      if (!this.#following) return;
      this.#list.scrollTop = this.#list.scrollHeight;
      this.#top = this.#list.scrollTop;
    });
  }

  /* What gets longer, or lower, moves its end away from the reader: only who comes from below has left it. */
  #look() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    if (scrollHeight - scrollTop - clientHeight < AT_END) this.#set(true);
    else if (scrollTop < this.#top) this.#set(false);
    this.#top = scrollTop;
  }

  /* The browser holds on to what is seen when something above is removed, except at the end: that looked as if the
     reader scrolled up. */
  #set(following) {
    this.#following = following;
    this.#list.style.overflowAnchor = following ? "none" : "";
  }
}
