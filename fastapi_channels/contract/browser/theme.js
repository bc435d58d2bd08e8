/* Before the first paint, so that a stored theme never flashes. */
try { document.documentElement.dataset.theme = localStorage.getItem("theme") ?? ""; } catch { /* storage is off */ }
