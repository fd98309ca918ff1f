// Steps through a story: the event that is reached is marked, and the state of the machine at its step is shown.
"use strict";
(() => {
  const all = [...document.querySelectorAll(".steps")].map((story) => {
    const panel = story.querySelector(".stepper"), slider = panel.querySelector("input");
    const events = [...story.querySelectorAll("tr[data-step]")];
    const rows = [...panel.querySelectorAll("tr[data-values]")].map((row) => [row, JSON.parse(row.dataset.values)]);
    let at = -1;
    const valueAt = (values, step) => values.filter(([since]) => since === 0 || since <= step).at(-1)[1];
    const go = (to) => {
      const event = events[to], before = at < 0 ? 0 : Number(events[at].dataset.step), step = Number(event.dataset.step);
      events[at]?.classList.remove("now");
      event.classList.add("now");
      for (const [row, values] of rows) {
        row.lastElementChild.textContent = valueAt(values, step);
        row.classList.toggle("changed", valueAt(values, before) !== valueAt(values, step));
      }
      const said = event.querySelector(".event"), clash = event.classList.contains("guilty") ? " (clashes)" : "";
      const text = said.querySelector("summary, .said").textContent.trim();
      panel.querySelector(".here").textContent =
        `Event ${to + 1} of ${events.length}, step ${step}, ${said.querySelector(".name").textContent}${clash}: ${text}`;
      at = slider.value = to;
      const fold = event.closest("details");
      if (fold) fold.open = true;
    };
    const clash = () => {
      const later = events.findIndex((event, i) => i > at && event.classList.contains("guilty"));
      return later < 0 ? events.findIndex((event) => event.classList.contains("guilty")) : later;
    };
    const press = (key) => {
      const to = { Home: 0, ArrowLeft: at - 1, ArrowRight: at + 1, End: events.length - 1, c: clash() }[key];
      if (to === undefined) return false;
      if (events[to] && to !== at) {
        go(to);
        events[to].scrollIntoView({ block: "nearest" });
      }
      return true;
    };
    slider.max = events.length - 1;
    slider.addEventListener("input", () => go(Number(slider.value)));
    panel.addEventListener("click", (click) => press(click.target.dataset.key));
    events.forEach((event, i) => event.addEventListener("click", () => go(i)));
    story.classList.add("on");
    panel.hidden = false;
    go(Math.max(0, events.findIndex((event) => !event.closest("details"))));  // what is folded stays so
    return { story, press };
  });
  let active = all[0];
  for (const one of all) one.story.addEventListener("pointerdown", () => { active = one; });
  document.addEventListener("keydown", (key) => {
    if (key.ctrlKey || key.altKey || key.metaKey || key.shiftKey || key.target.matches("input, summary")) return;
    if (active.press(key.key)) key.preventDefault();
  });
})();
