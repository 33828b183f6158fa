"use strict";
(() => {
  const box = document.getElementById("treemap");
  const trail = document.getElementById("trail");
  const chosen = document.getElementById("chosen");
  const list = document.getElementById("list");
  const listing = document.getElementById("listing");

  // A node as the page has it: [name, bytes], [name, bytes, names, [children]], or the rest of a directory: [names, bytes].
  const node = (raw, up, at) => ({ raw, up, at, rest: typeof raw[0] === "number", kids: null });
  const name = (n) => n.rest ? n.raw[0] + " smaller" : n.raw[0];
  const bytes = (n) => n.raw[1];
  const isDirectory = (n) => !n.rest && n.raw.length > 2;
  const kids = (n) => {
    if (!n.kids) {
      n.kids = isDirectory(n) ? n.raw[3].map((raw, at) => node(raw, n, at)) : [];
    }
    return n.kids;
  };
  const way = (n) => {
    const found = [];
    for (let own = n; own; own = own.up) {
      found.unshift(own);
    }
    return found;
  };
  const human = (count) => {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let at = 0;
    while (count >= 1024 && at < units.length - 1) {
      count /= 1024;
      at += 1;
    }
    return (at ? (Math.floor(count * 10) / 10).toFixed(1) : count) + " " + units[at];
  };
  const told = (n) => {
    const names = isDirectory(n) ? ", " + (n.raw[2] - 1) + " names" : "";
    return name(n) + ": " + human(bytes(n)) + names;
  };

  // Squarified treemaps (Bruls, Huizing, van Wijk): rows along the shorter side, each as long as its boxes get squarer.
  const squarified = (nodes, x, y, w, h) => {
    const placed = [];
    let left = nodes.reduce((sum, n) => sum + bytes(n), 0);
    let at = 0;
    while (at < nodes.length && left > 0 && w > 0 && h > 0) {
      const side = Math.min(w, h);
      const scale = (w * h) / left;
      let sum = 0, count = 0, best = Infinity;
      while (at + count < nodes.length) {
        const next = sum + bytes(nodes[at + count]);
        const length = next * scale / side;
        const largest = bytes(nodes[at]) * scale / length;
        const smallest = bytes(nodes[at + count]) * scale / length;
        const worst = Math.max(largest / length, length / smallest);
        if (count > 0 && !(worst <= best)) {
          break;
        }
        best = worst;
        sum = next;
        count += 1;
      }
      if (sum <= 0) {
        break;
      }
      const length = sum * scale / side;
      let from = 0;
      for (let number = at; number < at + count; number += 1) {
        const across = bytes(nodes[number]) * scale / length;
        placed.push(w <= h
          ? { n: nodes[number], x: x + from, y, w: across, h: length }
          : { n: nodes[number], x, y: y + from, w: length, h: across });
        from += across;
      }
      if (w <= h) {
        y += length;
        h -= length;
      } else {
        x += length;
        w -= length;
      }
      left -= sum;
      at += count;
    }
    return placed;
  };

  const MOST = 600;
  const root = node(JSON.parse(document.getElementById("data").textContent), null, 0);
  let here = root;

  const place = (element, own) => {
    element.style.left = own.x + "px";
    element.style.top = own.y + "px";
    element.style.width = own.w + "px";
    element.style.height = own.h + "px";
  };
  const inside = (button, own) => {
    const padding = 17;
    const width = own.w - 6, height = own.h - padding - 5;
    if (width < 12 || height < 12) {
      return;
    }
    const some = kids(own.n).slice(0, 120);
    for (const child of squarified(some, 2, padding, width, height)) {
      if (child.w >= 3 && child.h >= 3) {
        const part = document.createElement("i");
        place(part, child);
        if (child.w > 60 && child.h > 18) {
          part.textContent = name(child.n);
        }
        button.append(part);
      }
    }
  };
  const show = (n) => {
    chosen.textContent = way(n).map(name).join(" / ") + ": " + human(bytes(n));
  };
  const choose = (n) => {
    if (isDirectory(n) && kids(n).length > 0) {
      go(n, true);
    } else {
      show(n);
    }
  };
  const drawTrail = () => {
    trail.replaceChildren();
    for (const own of way(here)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name(own);
      if (own === here) {
        button.setAttribute("aria-current", "location");
      }
      button.addEventListener("click", () => go(own, true));
      trail.append(button);
    }
  };
  const drawList = () => {
    list.replaceChildren();
    if (!listing.open) {
      return;
    }
    for (const own of kids(here).slice(0, MOST)) {
      const item = document.createElement("li");
      item.textContent = told(own);
      list.append(item);
    }
    if (kids(here).length > MOST) {
      const item = document.createElement("li");
      item.textContent = "and " + (kids(here).length - MOST) + " more";
      list.append(item);
    }
  };
  const draw = () => {
    box.replaceChildren();
    const placed = squarified(kids(here), 0, 0, box.clientWidth, box.clientHeight);
    for (const own of placed.slice(0, MOST)) {
      if (own.w < 2 || own.h < 2) {
        continue;
      }
      const button = document.createElement("button");
      button.type = "button";
      button.className = "c" + own.n.at % 8;
      button.setAttribute("aria-label", told(own.n) + (isDirectory(own.n) ? ", directory" : ""));
      button.title = told(own.n);
      place(button, own);
      if (own.w > 30 && own.h > 14) {
        const label = document.createElement("span");
        label.textContent = name(own.n) + " " + human(bytes(own.n));
        button.append(label);
      }
      if (isDirectory(own.n)) {
        inside(button, own);
      }
      button.addEventListener("click", () => choose(own.n));
      button.addEventListener("focus", () => show(own.n));
      button.addEventListener("pointerenter", () => show(own.n));
      button.node = own.n;
      box.append(button);
    }
  };
  // The place in the address is the numbers of children from the root on, so that no name is in it.
  const go = (n, focus, from) => {
    here = n;
    const hash = "#" + way(n).slice(1).map((own) => own.at).join(".");
    if (location.hash !== hash && !(hash === "#" && location.hash === "")) {
      location.hash = hash;
    }
    drawTrail();
    draw();
    drawList();
    chosen.textContent = told(n);
    box.dataset.depth = String(way(n).length - 1);
    if (focus) {
      const buttons = [...box.children];
      const target = buttons.find((button) => button.node === from) || buttons[0];
      if (target) {
        target.focus({ preventScroll: true });
      }
    }
  };
  const up = () => {
    if (here.up) {
      go(here.up, true, here);
    }
  };
  const target = () => {
    let n = root;
    for (const part of location.hash.slice(1).split(".").filter((part) => part !== "")) {
      const next = kids(n)[Number(part)];
      if (!next) {
        break;
      }
      n = next;
    }
    return n;
  };
  const follow = () => {
    if (target() !== here) {
      go(target(), false);
    }
  };
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || event.key === "Backspace") {
      event.preventDefault();
      up();
      return;
    }
    const step = STEPS[event.key];
    const active = document.activeElement;
    if (!step || !active || active.parentElement !== box) {
      return;
    }
    event.preventDefault();
    const own = active.getBoundingClientRect();
    const middle = (rect) => [rect.left + rect.width / 2, rect.top + rect.height / 2];
    const [x, y] = middle(own);
    let best = null, least = Infinity;
    for (const button of box.children) {
      const [bx, by] = middle(button.getBoundingClientRect());
      const along = (bx - x) * step[0] + (by - y) * step[1];
      const across = Math.abs((bx - x) * step[1]) + Math.abs((by - y) * step[0]);
      if (button !== active && along > 0.5 && along + across * 2 < least) {
        least = along + across * 2;
        best = button;
      }
    }
    if (best) {
      best.focus();
    }
  });
  listing.addEventListener("toggle", drawList);
  window.addEventListener("hashchange", follow);
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== width) {
      width = box.clientWidth;
      draw();
    }
  }).observe(box);
  width = box.clientWidth;
  go(target(), false);
})();
