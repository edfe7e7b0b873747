// The page's behaviour: send pictures, show their tags and where they come from, follow the threshold.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const MOST_TAGS = 20;
  const AT_ONCE = 2;
  const TRIES = 6;
  const root = document.documentElement;
  const cards = [];
  const waiting = [];
  let sending = 0;
  let key = "";
  let annotators = [];

  const theme = $("#theme");
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const showTheme = () =>
    theme.setAttribute("aria-pressed", (root.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark");
  theme.addEventListener("click", () => {
    root.dataset.theme = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
    showTheme();
  });
  systemDark.addEventListener("change", showTheme);
  showTheme();

  const say = (text) => ($("#status").textContent = text);
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const broken = () => {
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    icon.setAttribute("class", "icon");
    icon.setAttribute("aria-hidden", "true");
    use.setAttribute("href", "#icon-broken");
    icon.append(use);
    return icon;
  };

  async function ask(path, options = {}) {
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    for (let tries = 1; ; tries += 1) {
      const response = await fetch(path, { ...options, headers });
      if (response.status !== 503 || tries === TRIES) return response;
      const seconds = Number(response.headers.get("retry-after")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 30)));
    }
  }

  async function describe() {
    let response;
    try {
      response = await ask("v1/bundle");
    } catch {
      say("The server cannot be reached.");
      return;
    }
    $("#unlock").hidden = response.status !== 401;
    if (!response.ok) {
      const problem = await response.json().catch(() => null);
      say(problem?.error?.reason ?? `The server answered ${response.status}.`);
      if (response.status === 401) $("#key").focus();
      return;
    }
    const bundle = await response.json();
    annotators = Object.keys(bundle.annotators);
    const count = new Intl.NumberFormat("en").format(bundle.tags);
    $("#bundle").textContent = `Bundle ${bundle.id}: ${count} tags, ${bundle.backbone}, ${annotators.join(" and ")}`;
    $("#threshold").value = Math.round(100 * bundle.threshold);
    $("#key-to-shares").replaceChildren(
      ...annotators.map((name, place) => {
        const item = make("li");
        item.append(make("span", `swatch share-${place % 5}`), name);
        return item;
      }),
    );
    say("");
    follow();
    send();
  }

  function add(files) {
    for (const file of files) {
      const element = $("#card").content.firstElementChild.cloneNode(true);
      const card = { file, element, result: null, url: URL.createObjectURL(file) };
      const name = file.name || "pasted picture";
      $(".id", element).textContent = name;
      $(".id", element).title = name;
      const image = make("img");
      image.alt = `Picture ${name}`;
      image.addEventListener("error", () => image.replaceWith(broken()), { once: true });
      image.src = card.url;
      $(".picture", element).append(image);
      $(".remove", element).setAttribute("aria-label", `Remove ${name}`);
      $(".remove", element).addEventListener("click", () => remove(card));
      $(".copy", element).addEventListener("click", () => copy(shown(card), `the tags of ${name}`));
      $("#grid").prepend(element);
      cards.unshift(card);
      waiting.push(card);
    }
    $("#bar").hidden = cards.length === 0;
    send();
  }

  function remove(card) {
    cards.splice(cards.indexOf(card), 1);
    const place = waiting.indexOf(card);
    if (place >= 0) waiting.splice(place, 1);
    URL.revokeObjectURL(card.url);
    card.element.remove();
    $("#bar").hidden = cards.length === 0;
    $("#files").focus();
    follow();
  }

  async function send() {
    while (waiting.length && sending < AT_ONCE && $("#unlock").hidden) {
      const card = waiting.shift();
      sending += 1;
      annotate(card).finally(() => {
        sending -= 1;
        send();
      });
    }
  }

  async function annotate(card) {
    const type = card.file.type.startsWith("image/") ? card.file.type : "application/octet-stream";
    let result;
    try {
      const response = await ask(`v1/annotate?explain=true&top_k=${MOST_TAGS}`, {
        method: "POST",
        headers: { "content-type": type },
        body: card.file,
      });
      const answer = await response.json();
      if (response.status === 401) {
        waiting.unshift(card);
        $("#unlock").hidden = false;
        $("#key").focus();
        return;
      }
      result = answer.results?.[0] ?? { tags: [], error: answer.error };
      card.bundle = answer.bundle_id;
    } catch {
      result = { tags: [], error: { code: "unreachable", reason: "The server did not answer." } };
    }
    card.result = result;
    fill(card);
    follow();
  }

  function fill({ element, result }) {
    $(".waiting", element).hidden = true;
    if (result.error) {
      $(".error", element).hidden = false;
      $(".error code", element).textContent = result.error.code;
      $(".error p", element).textContent = result.error.reason;
      return;
    }
    $(".copy", element).hidden = false;
    $(".tags", element).replaceChildren(...result.tags.map(tagRow));
    const near = result.neighbours ?? [];
    $(".neighbours", element).hidden = near.length === 0;
    $(".strip", element).replaceChildren(...near.map((one) => neighbour(one, $(".who", element))));
  }

  function tagRow(tag) {
    const row = make("li", "tag");
    row.dataset.score = tag.score;
    const track = make("span", "track");
    const fill = make("span", "fill");
    const parts = annotators.map((name) => [name, tag.shares?.[name] ?? 0]);
    parts.forEach(([, share], place) => {
      const part = make("span", `share-${place % 5}`);
      part.style.setProperty("--part", share);
      fill.append(part);
    });
    fill.style.setProperty("--score", tag.score);
    track.setAttribute("aria-hidden", "true");
    track.append(fill);
    const told = parts.map(([name, share]) => `${name} ${percent(share)}`).join(", ");
    row.title = told;
    row.append(make("bdi", "name", tag.tag), make("span", "score", percent(tag.score)));
    row.append(make("span", "sr", `; shares: ${told}`), track);
    return row;
  }

  function neighbour(one, who) {
    const item = make("li");
    const button = make("button", "neighbour");
    const told = `${one.image_id} at ${one.distance.toFixed(3)}: ${one.tags.join(", ")}`;
    button.type = "button";
    button.setAttribute("aria-label", `Neighbour ${told}`);
    button.title = told;
    if (one.thumbnail) {
      const image = make("img");
      image.alt = "";
      image.src = `data:image/jpeg;base64,${one.thumbnail}`;
      button.append(image);
    } else button.append(broken());
    const tell = () => (who.textContent = one.tags.join(", "));
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, tell);
    item.append(button);
    return item;
  }

  const least = () => Number($("#threshold").value) / 100;
  const passes = (tag) => tag.score >= least() - 1e-9;

  function follow() {
    let tags = 0;
    for (const { element, result } of cards) {
      if (!result || result.error) continue;
      const rows = $$(".tag", element);
      rows.forEach((row, place) => (row.hidden = !passes(result.tags[place])));
      const count = rows.filter((row) => !row.hidden).length;
      $(".none", element).hidden = count > 0;
      tags += count;
    }
    $("#level").textContent = `${$("#threshold").value}%`;
    $("#threshold").setAttribute("aria-valuetext", `${$("#threshold").value} per cent`);
    const done = cards.filter(({ result }) => result).length;
    if (cards.length) say(`${done} of ${cards.length} pictures tagged, ${tags} tags shown`);
  }

  const shown = (card) => ({
    name: card.file.name,
    bundle_id: card.bundle,
    threshold: least(),
    ...card.result,
    tags: card.result?.tags.filter(passes) ?? [],
    neighbours: card.result?.neighbours?.map(({ thumbnail, ...rest }) => rest),
  });

  async function copy(value, what) {
    try {
      await navigator.clipboard.writeText(JSON.stringify(value, null, 1));
      say(`Copied ${what}.`);
    } catch {
      say("The browser did not let the page copy.");
    }
  }

  $("#files").addEventListener("change", ({ target }) => {
    add(target.files);
    target.value = "";
  });
  $("#threshold").addEventListener("input", follow);
  $("#copy").addEventListener("click", () => copy(cards.filter(({ result }) => result).map(shown), "all the tags"));
  $("#clear").addEventListener("click", () => [...cards].forEach(remove));
  $("#unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    key = $("#key").value.trim();
    describe();
  });
  const drop = $("#drop");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    add(event.dataTransfer.files);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    const files = [...(clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (files.length) add(files);
  });
  describe();
})();
