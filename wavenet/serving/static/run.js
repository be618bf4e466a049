// The previews of a training run, step by step.

import { decoded } from "./sound.js";
import { Version } from "./version.js";

export async function showRun(players, rate) {
  const { steps } = await (await fetch("run")).json();
  document.getElementById("run").hidden = steps.length === 0;
  if (steps.length === 0) return;
  const slider = document.getElementById("step"), shown = new Map();
  slider.max = steps.length - 1;
  const show = async () => {
    const step = steps[slider.value];
    document.querySelector("output[for=step]").textContent = step.name;
    slider.setAttribute("aria-valuetext", step.name);
    for (const [name, path] of Object.entries(step.clips)) {
      if (!shown.has(name)) {
        shown.set(name, new Version(name, null, players));
        document.getElementById("clips").append(shown.get(name).element);
        players.versions.push(shown.get(name));
      }
      const bytes = await (await fetch(path)).arrayBuffer();
      shown.get(name).finish(await decoded(bytes, rate), rate, `, ${step.name}`);
    }
  };
  slider.addEventListener("input", show);
  slider.value = slider.max;
  await show();
}
