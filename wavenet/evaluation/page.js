"use strict";
/* Without this script the page still shows and plays everything; with it, tables sort, keys work,
   one sound plays at a time, and versions are switched at the place where the last one was. */
(() => {
  const utterances = [...document.querySelectorAll(".utterance")];
  const versionsOf = (utterance) => [...utterance.querySelectorAll(".version")];
  const audioOf = (version) => version.querySelector("audio");
  let utterance = null;
  let version = null;

  /* Tables */
  const valueOf = (row, column) => {
    const text = row.children[column].dataset.value;
    return text === undefined ? null : Number(text);
  };
  const sort = (table, column, order) => {
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [valueOf(a, column), valueOf(b, column)];
      if (x === null || y === null) return (x === null) - (y === null); // no value: last
      return sign * (x - y);
    });
    table.tBodies[0].append(...rows);
    for (const [i, head] of [...table.tHead.rows[0].cells].entries()) {
      if (i === column) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    }
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = head.querySelector("button");
      button.addEventListener("click", () => {
        const other = { ascending: "descending", descending: "ascending" };
        sort(table, column, other[head.getAttribute("aria-sort")] ?? button.dataset.first);
      });
    }
  }

  /* Which sound is meant */
  const choose = (next) => {
    if (version === next) return;
    version?.classList.remove("current");
    version = next;
    version.classList.add("current");
    const home = version.closest(".utterance");
    if (home !== utterance) {
      utterance?.classList.remove("current");
      utterance = home;
      utterance.classList.add("current");
    }
    drawPlayhead();
  };
  const drawPlayhead = () => {
    const audio = version && audioOf(version);
    const line = version && version.querySelector(".playhead");
    if (!audio || !line) return;
    line.style.left = audio.duration ? `${(100 * audio.currentTime) / audio.duration}%` : "0";
    if (!audio.paused) requestAnimationFrame(drawPlayhead);
  };
  const play = (audio) => audio.play().catch(() => {}); // interrupted by a pause: nothing is lost
  const loaded = (audio, then) => {
    if (audio.readyState >= HTMLMediaElement.HAVE_METADATA) return then();
    audio.preload = "metadata";
    audio.addEventListener("loadedmetadata", then, { once: true });
  };
  const seek = (audio, time) =>
    loaded(audio, () => {
      audio.currentTime = Math.min(Math.max(0, time), audio.duration || 0);
      drawPlayhead();
    });

  /* Players */
  for (const one of document.querySelectorAll(".version")) {
    const audio = audioOf(one);
    if (!audio) continue;
    audio.addEventListener("play", () => {
      if (audio.paused) return; // the event comes later than the call: it has been stopped since
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
      choose(one);
      drawPlayhead();
    });
    audio.addEventListener("seeked", drawPlayhead);
    one.querySelector(".picture")?.addEventListener("click", (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      choose(one);
      loaded(audio, () => {
        seek(audio, ((event.clientX - box.left) / box.width) * audio.duration);
        play(audio);
      });
    });
  }
  /* Browsers hold some dozens of players at a time: those near the screen are loaded, others let go. */
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        for (const audio of target.querySelectorAll("audio")) {
          if (isIntersecting) audio.preload = "metadata";
          else if (audio.paused && audio.preload !== "none") {
            audio.preload = "none";
            audio.load();
          }
        }
      }
    },
    { rootMargin: "300px" },
  );
  for (const one of utterances) near.observe(one);

  /* Keys */
  const switchTo = (next) => {
    const from = version && audioOf(version);
    const to = next && audioOf(next);
    if (!to) return;
    const same = from && version.closest(".utterance") === next.closest(".utterance");
    const time = same && !from.ended ? from.currentTime : 0;
    if (from && from !== to) from.pause();
    choose(next);
    seek(to, time);
    play(to);
  };
  const move = (step) => {
    const index = utterance === null ? 0 : utterances.indexOf(utterance) + step;
    const next = utterances[Math.min(Math.max(0, index), utterances.length - 1)];
    if (next === utterance) return;
    const place = utterance === null ? 0 : versionsOf(utterance).indexOf(version);
    if (version) audioOf(version).pause();
    choose(versionsOf(next).filter(audioOf)[place] ?? versionsOf(next)[0]);
    next.scrollIntoView({ block: "start" });
    next.focus({ preventScroll: true });
  };
  const pressed = (key) => {
    if (key >= "1" && key <= "9") {
      return switchTo(versionsOf(utterance ?? utterances[0])[Number(key) - 1]);
    }
    if (key === "j" || key === "k") return move(key === "j" ? 1 : -1);
    const audio = audioOf(version ?? versionsOf(utterances[0])[0]);
    if (key === " ") {
      choose(audio.closest(".version"));
      if (audio.paused) play(audio);
      else audio.pause();
    } else if (key === "0") seek(audio, 0);
    else seek(audio, audio.currentTime + (key === "ArrowLeft" ? -1 : 1));
  };
  const keys = new Set([..."0123456789jk ", "ArrowLeft", "ArrowRight"]);
  if (utterances.length) {
    window.addEventListener(
      "keydown",
      (event) => {
        const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
        if (!keys.has(key) || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
        const target = event.target instanceof Element ? event.target : document.body;
        if (key === " " && target.closest("button, summary")) return;
        if (key.startsWith("Arrow") && target.closest(".scroll")) return;
        event.preventDefault();
        event.stopPropagation();
        pressed(key);
      },
      { capture: true },
    );
  }
})();
