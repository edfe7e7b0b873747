// The gallery's behaviour: filter, sort, threshold and the detail dialog, on what is there.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const number = new Intl.NumberFormat("en");
  const plural = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;

  const bar = $(".bar");
  if (!bar) return;
  bar.hidden = false;

  const cards = $$(".card").map((element, position) => ({
    element,
    position,
    id: element.dataset.id,
    grid: element.parentElement,
    section: element.closest("section").id,
    failed: "failed" in element.dataset,
    judged: "judged" in element.dataset,
    tally: $(".tally", element),
    none: $(".none", element),
    missed: $(".missed", element),
    chips: $$(".missed .chip", element).map((node) => ({ node, name: node.dataset.tag })),
    tags: $$(".tag", element).map((node) => ({
      node,
      name: node.dataset.tag,
      score: Number(node.dataset.score),
      right: node.classList.contains("right"),
    })),
  }));
  for (const { tags } of cards)
    for (const { node, score } of tags) node.style.setProperty("--score", Math.min(1, Math.max(0, score)));

  // Pictures of about the frame's shape fill it; others stand whole on a blur of themselves.
  for (const image of $$(".picture img")) {
    const settle = () => {
      const shape = image.naturalWidth / image.naturalHeight;
      if (shape > 1.15 && shape < 1.6) image.parentElement.classList.add("fills");
      else {
        image.parentElement.classList.add("stands");
        image.parentElement.style.backgroundImage = `url("${image.src}")`;
      }
    };
    if (image.complete && image.naturalWidth) settle();
    else image.addEventListener("load", settle, { once: true });
  }

  const search = $("#search");
  const threshold = $("#threshold");
  const section = $("#section");
  const shows = $$("input[name=show]");

  function applyTo(card, needle, least, show) {
    const shown = new Set();
    let count = 0;
    let right = 0;
    let hit = false;
    const matches = (node, name) => {
      const match = needle !== "" && name.toLowerCase().includes(needle);
      node.classList.toggle("hit", match);
      hit ||= match;
    };
    for (const tag of card.tags) {
      tag.node.hidden = tag.score * 100 < least - 1e-9;
      if (tag.node.hidden) continue;
      shown.add(tag.name);
      count += 1;
      right += tag.right;
      matches(tag.node, tag.name);
    }
    let missed = 0;
    for (const chip of card.chips) {
      chip.node.hidden = shown.has(chip.name);
      if (chip.node.hidden) continue;
      missed += 1;
      matches(chip.node, chip.name);
    }
    if (card.missed) card.missed.hidden = missed === 0;
    if (card.none) card.none.hidden = count > 0;
    if (card.tally) card.tally.textContent = `${right} of ${count} right`;
    const wanted =
      show === "all" || (show === "failed" ? card.failed : card.judged && (missed > 0 || right < count));
    const here = !section?.value || section.value === card.section;
    card.element.hidden = !(wanted && here && (needle === "" || hit));
    return { tags: count, judged: card.judged ? count : 0, right };
  }

  function apply() {
    const needle = search.value.trim().toLowerCase();
    const show = shows.find((input) => input.checked).value;
    const total = { pictures: 0, tags: 0, ofTags: 0, judged: 0, right: 0 };
    const visible = new Map();
    for (const card of cards) {
      const counts = applyTo(card, needle, Number(threshold.value), show);
      if (card.element.hidden) continue;
      visible.set(card.section, (visible.get(card.section) ?? 0) + 1);
      total.pictures += 1;
      total.tags += counts.tags;
      total.ofTags += card.tags.length;
      total.judged += counts.judged;
      total.right += counts.right;
    }
    for (const element of $$("main > section")) {
      const all = $$(".card", element).length;
      const now = visible.get(element.id) ?? 0;
      element.hidden = all > 0 ? now === 0 : total.pictures < cards.length;
      $(".visible", element).textContent = now === all ? plural(all, "picture") : `${now} of ${plural(all, "picture")}`;
    }
    $("#nothing").hidden = total.pictures > 0;
    $("#level").textContent = `${threshold.value}%`;
    threshold.setAttribute("aria-valuetext", `${threshold.value} per cent`);
    const share = total.judged ? `, ${Math.round((100 * total.right) / total.judged)}% right` : "";
    $("#status").textContent =
      `${number.format(total.pictures)} of ${plural(cards.length, "picture")}, ` +
      `${number.format(total.tags)} of ${plural(total.ofTags, "tag")}${share}`;
  }

  const collator = new Intl.Collator("en", { numeric: true });
  const best = (card) => (card.tags.length ? Math.max(...card.tags.map((tag) => tag.score)) : -Infinity);
  const rights = (card) => (card.judged ? card.tags.filter((tag) => tag.right).length : -1);
  const down = (left, right) => (left === right ? 0 : left < right ? 1 : -1);
  const orders = {
    position: () => 0,
    id: (a, b) => collator.compare(a.id, b.id),
    best: (a, b) => down(best(a), best(b)),
    right: (a, b) => down(rights(a), rights(b)) || down(best(a), best(b)),
  };
  $("#sort").addEventListener("change", (event) => {
    cards.sort((a, b) => orders[event.target.value](a, b) || a.position - b.position);
    for (const card of cards) card.grid.append(card.element);
  });

  let waiting = false;
  bar.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      apply();
    });
  });
  $("#more").addEventListener("click", ({ currentTarget: button }) =>
    button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") !== "true"));
  $("#reset").addEventListener("click", () => {
    search.value = "";
    threshold.value = 0;
    shows[0].checked = true;
    if (section) section.value = "";
    apply();
    search.focus();
  });

  // A strip of neighbours is one stop of the Tab key; the arrow keys walk it.
  for (const strip of $$(".strip")) {
    const who = $(".who", strip.parentElement);
    const buttons = $$(".neighbour", strip);
    const rest = () => (who.textContent = who.dataset.rest);
    const name = ({ target }) => {
      const near = target.closest(".neighbour");
      if (near) who.textContent = `\u2068${near.dataset.id}\u2069 at ${near.dataset.distance}`;
    };
    strip.addEventListener("pointerover", name);
    strip.addEventListener("focusin", name);
    strip.addEventListener("pointerleave", rest);
    strip.addEventListener("focusout", rest);
    strip.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
      for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
      next.focus();
    });
    rest();
  }

  const dialog = $("#detail");
  let current = null;
  const visibleCards = () => cards.filter((card) => !card.element.hidden);

  function neighbour(button) {
    const item = document.createElement("li");
    const frame = document.createElement("span");
    const id = document.createElement("bdi");
    frame.className = "frame";
    frame.append(button.firstElementChild.cloneNode(true));
    id.textContent = button.dataset.id;
    item.append(frame, id, `distance ${button.dataset.distance}`);
    return item;
  }

  function fill(card) {
    current = card;
    $("#detail-id bdi").textContent = card.id;
    $(".detail-picture").replaceChildren($(".picture > img, .picture > svg", card.element).cloneNode(true));
    const words = $$(".error, .tags, .missed", card.element).map((node) => node.cloneNode(true));
    const given = new Set(card.tags.map((tag) => tag.name));
    for (const block of words) {
      for (const tag of $$(".tag", block)) tag.hidden = false;
      for (const chip of $$(".chip", block)) chip.hidden = given.has(chip.dataset.tag);
      if (block.matches(".missed")) block.hidden = !$(".chip:not([hidden])", block);
    }
    if (card.none && card.tags.length === 0) words.push(card.none.cloneNode(true));
    $(".detail-words > div").replaceChildren(...words);
    $(".detail-words > .label").hidden = card.failed;
    $(".detail-words .tally").textContent = card.judged ? `${rights(card)} of ${card.tags.length} right` : "";
    const near = $$(".neighbour", card.element).map(neighbour);
    $(".detail-neighbours ul").replaceChildren(...near);
    $(".detail-neighbours").hidden = near.length === 0;
    const around = visibleCards();
    $("#previous").setAttribute("aria-disabled", around[0] === card);
    $("#next").setAttribute("aria-disabled", around.at(-1) === card);
    dialog.scrollTop = 0;
  }

  function move(step) {
    const around = visibleCards();
    const next = around[around.indexOf(current) + step];
    if (next) fill(next);
  }

  for (const card of cards)
    card.element.addEventListener("click", ({ target }) => {
      if (!target.closest("button")) return;
      fill(card);
      dialog.showModal();
      $("#close").focus();
    });
  $("#previous").addEventListener("click", () => move(-1));
  $("#next").addEventListener("click", () => move(1));
  $("#close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) move(step);
  });
  apply();
})();
