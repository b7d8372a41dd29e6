// The page's own script: what HTML and htmx can't do alone. No framework, no build step.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const say = (text) => { const place = byId("live-status"); if (place) place.textContent = text; };

  // -- Frames ---------------------------------------------------------------------------------------------------------

  // Replaces the vendored extension: it calls every style an inline swap (idiomorph 0.8.0), so that beforeend, beforebegin
  // and innerHTML would insert the wrapper too; and it may call Function, which the CSP forbids.
  htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap: (style, target, fragment) =>
      style === "morph" ? Idiomorph.morph(target, fragment.children, { morphStyle: "outerHTML" }) : false,
  });

  const HEAD = /^<!--([0-9a-f-]{36}):(\d+)-->/;
  const SNAPSHOT = /^<!--[^>]*--><article [^>]*hx-swap-oob="morph"/;
  const NEW_RUN = /^<!--[^>]*--><div hx-swap-oob="beforeend:#content">/;
  const runs = () => [...document.querySelectorAll(".run[data-seq]")];
  const isUnfinished = (run) => !run.hasAttribute("data-run-status");

  const cursor = () => {
    const all = runs();
    const wanted = all.filter((run, place) => isUnfinished(run) || place === all.length - 1);
    return wanted.map((run) => `${run.id.slice(4)}:${run.dataset.seq}`).join(",");
  };

  const isStale = (message) => {
    const head = HEAD.exec(message);
    const run = head && byId(`run-${head[1]}`);
    if (!head || NEW_RUN.test(message)) return false;
    // A frame changes what is there; a run that this page hasn't got comes whole.
    if (!run) return true;
    const seq = Number(head[2]), shown = Number(run.dataset.seq);
    return SNAPSHOT.test(message) ? seq < shown : seq <= shown;
  };

  const readyForMessages = () => {
    const content = byId("content");
    if (!content || !content.classList.contains("start")) return;
    content.replaceChildren();
    content.className = "column log";
    content.setAttribute("aria-label", "Messages");
    byId("message")?.setAttribute("placeholder", "Ask a follow-up");
  };

  // A new run comes from the socket and as the answer to the post, in either order: the first adds it, the newer one wins.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    const incoming = fragment.querySelector?.(".answer .run[data-seq]");
    if (target.id !== "content" || !incoming) return;
    const known = byId(incoming.id);
    if (!known) { readyForMessages(); return; }
    event.preventDefault();
    if (Number(incoming.dataset.seq) > Number(known.dataset.seq)) {
      Idiomorph.morph(known.closest(".answer"), incoming.closest(".answer"), { morphStyle: "outerHTML" });
    }
  });

  document.addEventListener("htmx:wsBeforeMessage", (event) => {
    lastHeard = Date.now();
    if (closedFor) readmitted();
    if (isStale(event.detail.message)) event.preventDefault();
  });

  document.addEventListener("htmx:wsAfterMessage", (event) => {
    const head = HEAD.exec(event.detail.message);
    const run = head && byId(`run-${head[1]}`);
    if (run) {
      run.dataset.seq = String(Math.max(Number(run.dataset.seq), Number(head[2])));
      announce(run);
    }
    changed();
  });

  // -- Connection -----------------------------------------------------------------------------------------------------

  const CLOSED_FOR_GOOD = { 4401: "signed-out", 4404: "gone" };
  // The server beats each 15 s: one that is silent for longer has gone without a word, or the way to it has.
  const SILENT_MS = 40000, SILENT_AFTER_SLEEP_MS = 20000, CONNECTING_MS = 10000;
  const FIRST_WAIT_MS = 400, LONGEST_WAIT_MS = 5000;
  let socket = null, reopen = null, isLive = false, hasBeenLive = false, closedFor = "";
  // By the clock on the wall: others stand still while the computer sleeps.
  let lastHeard = 0, openedAt = 0, begunAt = 0, triedAt = 0;
  let nTries = 0, retryTimer = 0, bannerTimer = 0;

  // Retries are ours, in 24 days htmx's own: they go on beside a reconnect that was asked for, and close what it opened.
  htmx.config.wsReconnectDelay = () => 2 ** 31 - 1;

  htmx.createWebSocket = (url) => {
    leave(socket);
    clearTimeout(retryTimer);
    const seen = cursor();
    const made = new WebSocket(seen ? `${url}?cursor=${encodeURIComponent(seen)}` : url);
    made.binaryType = htmx.config.wsBinaryType;
    socket = made;
    begunAt = Date.now();
    return made;
  };

  // It may be half open: its end comes late and says nothing of the new one.
  const leave = (old) => {
    if (!old) return;
    old.onopen = old.onclose = old.onerror = null;
    old.close();
  };

  const reconnect = () => {
    if (!reopen) return;
    isLive = false;
    showConnection();
    reopen();
  };

  const retry = () => {
    clearTimeout(retryTimer);
    const longest = Math.min(FIRST_WAIT_MS * 2 ** nTries++, LONGEST_WAIT_MS);
    retryTimer = setTimeout(reconnect, longest * (0.5 + Math.random() / 2));
  };

  const showConnection = () => {
    const place = byId("connection");
    if (!place) return;
    place.dataset.state = isLive ? "live" : "lost";
    place.querySelector("span").textContent = isLive ? "Live" : hasBeenLive && !closedFor ? "Reconnecting" : "Not live";
    if (isLive || closedFor) {
      clearTimeout(bannerTimer);
      bannerTimer = 0;
      byId("banner").hidden = true;
    } else {
      // A reconnect within a second is not worth a word.
      bannerTimer ||= setTimeout(() => { byId("banner").hidden = isLive || Boolean(closedFor); }, hasBeenLive ? 1000 : 3000);
    }
  };

  document.addEventListener("htmx:wsOpen", (event) => {
    isLive = hasBeenLive = true;
    nTries = 0;
    openedAt = lastHeard = Date.now();
    reopen = event.detail.socketWrapper.reconnect;
    showConnection();
  });

  // A new password ends this browser's session for another, whose cookie comes a moment after: tried once. The signed-out
  // are let in and closed again at once.
  const mayHaveNewCookie = (code) => {
    if (code !== 4401 || (triedAt && Date.now() - openedAt < 2000)) return false;
    triedAt = Date.now();
    return true;
  };

  document.addEventListener("htmx:wsClose", (event) => {
    isLive = false;
    reopen = event.detail.socketWrapper.reconnect;
    const { code } = event.detail.event;
    const isWorthATry = mayHaveNewCookie(code);
    // The handshake of that try is refused to somebody else who has signed in meanwhile.
    const isSomebodyElses = code === 1006 && triedAt > openedAt;
    closedFor = isWorthATry ? "" : isSomebodyElses ? "gone" : CLOSED_FOR_GOOD[code] ?? "";
    showConnection();
    if (isWorthATry) retryTimer = setTimeout(reconnect, 700);
    else if (closedFor) refuse(closedFor);
    else retry();
  });

  // Signed in again in another tab: the first frame that comes takes the notice away.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    if (closedFor) reconnect();
    else look();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("#reconnect")) reconnect();
  });

  // A connection can be dead without having been closed.
  let lookedAt = Date.now();
  const look = () => {
    const now = Date.now(), hasSlept = now - lookedAt > 10000;
    lookedAt = now;
    if (closedFor || !socket) return;
    if (socket.readyState === WebSocket.CONNECTING && now - begunAt > CONNECTING_MS) reconnect();
    else if (isLive && now - lastHeard > (hasSlept ? SILENT_AFTER_SLEEP_MS : SILENT_MS)) reconnect();
    else if (hasSlept && !isLive) reconnect();
  };
  setInterval(look, 1000);

  // What the browser says of the network is a reason to try, not to believe: this computer may be the server.
  for (const name of ["online", "offline"]) addEventListener(name, () => { if (!closedFor) reconnect(); });

  // Without a socket the page asks for itself while something is under way.
  let isAsking = false, askedAt = 0;
  setInterval(() => {
    if (isLive || isAsking || closedFor || !byId("connection") || document.hidden || !runs().some(isUnfinished)) return;
    isAsking = true;
    askedAt = Date.now();
    htmx.ajax("GET", location.pathname, { source: "#content", target: "#content", select: "#content", swap: "morph" })
      .then(changed, () => {}).finally(() => { isAsking = false; });
  }, 2000);

  // What a socket has brought since then is newer than the answer.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig?.elt.id === "content" && openedAt >= askedAt) event.preventDefault();
  });

  // -- What is said ---------------------------------------------------------------------------------------------------

  const said = new Map();
  const ENDINGS = { succeeded: "Answer ready", failed: "The run failed", cancelled: "Stopped" };

  const announce = (run) => {
    const stages = [...run.querySelectorAll(".stage")];
    const place = stages.findIndex((stage) => stage.dataset.status === "running");
    const name = place >= 0 ? stages[place].querySelector(".name").title : "";
    let text = ENDINGS[run.dataset.runStatus] ?? (name && `Stage ${place + 1} of ${stages.length}, ${name}`);
    const again = place >= 0 && stages[place].querySelector(".again")?.textContent;
    if (again) text += `, ${again}`;
    if (text && said.get(run.id) !== text) { said.set(run.id, text); say(text); }
  };

  // -- Clocks ---------------------------------------------------------------------------------------------------------

  const started = new WeakMap();
  const words = (ms) => {
    if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
    return `${Math.floor(ms / 60000)} min ${Math.floor((ms % 60000) / 1000)} s`;
  };

  setInterval(() => {
    for (const clock of document.querySelectorAll("time[data-elapsed-ms]")) {
      let start = started.get(clock);
      if (!start || start.given !== clock.dataset.elapsedMs) {
        start = { given: clock.dataset.elapsedMs, zero: performance.now() - Number(clock.dataset.elapsedMs) };
        started.set(clock, start);
      }
      clock.textContent = words(performance.now() - start.zero);
    }
  }, 100);

  // -- Scrolling ------------------------------------------------------------------------------------------------------

  const page = document.documentElement;
  const gap = () => page.scrollHeight - page.clientHeight - page.scrollTop;
  let isAtEnd = true;

  const toEnd = () => { page.scrollTop = page.scrollHeight; };
  const showJump = () => { const jump = byId("jump"); if (jump) jump.hidden = isAtEnd; };

  // Content that grows between a scroll and its event looks like scrolling up, but only a person moves the page up.
  let lastTop = 0;
  addEventListener("scroll", () => {
    if (gap() < 48) isAtEnd = true;
    else if (page.scrollTop < lastTop) isAtEnd = false;
    lastTop = page.scrollTop;
    showJump();
  }, { passive: true });

  const changed = () => {
    // Other pages begin at their top, under their own title.
    if (!byId("connection")) return;
    showStop();
    if (isAtEnd) toEnd();
    showJump();
    const title = byId("title");
    if (title) document.title = `${title.textContent} · opschat`;
  };

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#jump")) return;
    event.preventDefault();
    isAtEnd = true;
    changed();
  });

  // -- Composer -------------------------------------------------------------------------------------------------------

  const isComposer = (event) => event.detail.elt.id === "composer";
  // By user, because another may sign in on this tab.
  const draftKey = () => `draft:${byId("composer")?.dataset.user}:${location.pathname}`;
  const keepDraft = (text) => {
    if (text) sessionStorage.setItem(draftKey(), text);
    else sessionStorage.removeItem(draftKey());
  };
  const askButtons = () => document.querySelectorAll("#composer .send, #starters button");
  let isSending = false, hasRenewed = false, tried = null;

  const newId = () => {
    if (crypto.randomUUID) return crypto.randomUUID();
    // randomUUID needs HTTPS or localhost.
    const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  };

  const isRefused = () => byId("composer-error")?.hidden === false;
  const sayRefusal = () => { byId("live-errors").textContent = isRefused() ? byId("composer-error").textContent.trim() : ""; };

  const refuse = (name) => {
    const place = byId("composer-error"), words = byId("refusals")?.content.querySelector(`[data-case="${name}"]`);
    if (!place || !words) return;
    place.querySelector("p").replaceWith(words.cloneNode(true));
    place.hidden = false;
    sayRefusal();
  };

  const takeBack = () => {
    const place = byId("composer-error");
    if (place) place.hidden = true;
    sayRefusal();
  };

  // Signed in again elsewhere: the socket speaks, or a message went through.
  const readmitted = () => { closedFor = ""; takeBack(); };

  const REFUSED = { 0: "offline", 400: "unread", 401: "signed-out", 403: "stale", 404: "gone", 411: "unread", 413: "large",
    422: "unread", 429: "many" };

  // Signing in again changes the token of every form: the page that is there now has the new one. Says what is wrong, if anything.
  const renew = async (form) => {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html", "HX-Request": "true" }, redirect: "manual" });
    if (answer.type === "opaqueredirect") return "signed-out";
    if (!answer.ok) return REFUSED[answer.status] ?? "broken";
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("composer");
    if (fresh?.dataset.user !== form.dataset.user) return "stranger";
    const token = fresh.querySelector("[name=csrfmiddlewaretoken]").value;
    for (const field of document.querySelectorAll("[name=csrfmiddlewaretoken]")) field.value = token;
    return "";
  };

  const sendAgain = async (form) => {
    const wrong = await renew(form).catch(() => "offline");
    if (wrong) refuse(wrong);
    else form.requestSubmit();
  };

  document.addEventListener("keydown", (event) => {
    const box = event.target;
    if (box.id === "message" && event.key === "Escape" && !event.isComposing && !document.querySelector(":popover-open")) pressStop();
    if (box.id !== "message" || event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    if (box.value.trim() && !isSending) box.form.requestSubmit();
  });

  document.addEventListener("input", (event) => {
    if (event.target.id === "message") keepDraft(event.target.value);
  });

  // The id makes a message that is sent again the same one; what was changed meanwhile is another message.
  document.addEventListener("htmx:configRequest", (event) => {
    if (!isComposer(event) || isSending) return;
    const { parameters, elt } = event.detail;
    if (tried !== null && tried !== parameters.text) parameters.client_id = elt.elements.client_id.value = newId();
    tried = parameters.text;
  });

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!isComposer(event)) return;
    if (isSending) { event.preventDefault(); return; }
    isSending = true;
    takeBack();
    for (const button of askButtons()) button.disabled = true;
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (!isComposer(event)) return;
    const form = event.detail.elt, { xhr, successful } = event.detail, box = byId("message");
    isSending = false;
    for (const button of askButtons()) button.disabled = false;
    if (successful) {
      // What was sent is gone from the box; what was typed meanwhile stays.
      const sent = event.detail.requestConfig.parameters.get?.("text") ?? event.detail.requestConfig.parameters.text;
      if (box.value === sent) { box.value = ""; keepDraft(""); }
      form.elements.client_id.value = newId();
      tried = null;
      if (closedFor) { readmitted(); reconnect(); }
      isAtEnd = true;
      changed();
    } else if (xhr.status === 403 && !hasRenewed) {
      hasRenewed = true;
      sendAgain(form);
      return;
    } else if (isRefused()) sayRefusal();
    else refuse(REFUSED[xhr.status] ?? "broken");
    hasRenewed = false;
    box.focus();
  });

  // A starter goes the composer's way: its own form goes when the first run comes, and htmx tells nothing of forms that are
  // gone. What was typed already stays.
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "starters" || !event.submitter) return;
    event.preventDefault();
    const box = byId("message"), typed = box.value;
    box.value = event.submitter.value;
    if (!isSending) box.form.requestSubmit();
    box.value = typed;
  });

  // -- Stop and Continue ----------------------------------------------------------------------------------------------

  // Ids of runs that this tab has asked to stop.
  const stopping = new Set();
  let stopTimer = 0;

  const goingOn = () => runs().find((run) => run.dataset.status === "running") ?? runs().find(isUnfinished);
  const isStopping = (run) => stopping.has(run.id) || run.hasAttribute("data-stopping");

  // One button for whatever goes on: the composer is never drawn again, so that draft and focus stay.
  const showStop = () => {
    const button = byId("stop"), box = byId("message"), run = goingOn();
    if (!button) return;
    for (const asked of runs()) asked.toggleAttribute("data-stopping", isUnfinished(asked) && isStopping(asked));
    if (!run) {
      clearTimeout(stopTimer);
      stopTimer = 0;
      if (document.activeElement === button) box.focus();
      button.hidden = true;
      box.placeholder = byId("content").classList.contains("start") ? "Ask in plain words" : "Ask a follow-up";
      return;
    }
    button.formAction = run.dataset.stop;
    button.dataset.run = run.id;
    button.ariaDisabled = String(isStopping(run));
    button.querySelector("span").textContent = isStopping(run) ? "Stopping…" : "Stop";
    // Most answers are there before one could press it.
    if (button.hidden) stopTimer ||= setTimeout(() => { stopTimer = 0; revealStop(); }, 250);
  };

  const revealStop = () => {
    if (!goingOn()) return;
    byId("stop").hidden = false;
    byId("message").placeholder = "Type the next message; it waits for this run";
  };

  const pressStop = () => {
    const button = byId("stop");
    if (!button || !goingOn()) return;
    showStop();
    act(button);
  };

  const runOf = (button) => byId(button.dataset.run) ?? button.closest(".answer")?.querySelector(".run");

  const act = async (button) => {
    const run = runOf(button), isStop = run && isUnfinished(run);
    if (!run || button.ariaDisabled === "true") return;
    takeBack();
    if (isStop) { stopping.add(run.id); say("Stopping…"); showStop(); }
    else button.ariaDisabled = "true";
    const wrong = await send(button.formAction).catch(() => "undone");
    if (isStop && wrong) { stopping.delete(run.id); run.removeAttribute("data-stopping"); }
    if (!isStop && wrong) button.ariaDisabled = "false";
    if (!isStop && !wrong) button.closest(".actions").hidden = true;
    // Signed in again elsewhere: what becomes of it comes over the socket.
    if (!wrong && closedFor) { readmitted(); reconnect(); }
    if (wrong && !isRefused()) refuse(wrong);
    changed();
  };

  // Says what is wrong, if anything; words of the server's own are shown already then.
  const send = async (address, isAgain = false) => {
    const form = byId("actions");
    const answer = await fetch(address, {
      method: "POST", body: new URLSearchParams(new FormData(form)), headers: { "HX-Request": "true" }, redirect: "manual",
    });
    if (answer.status === 403 && !isAgain) return (await renew(byId("composer"))) || send(address, true);
    if (answer.ok || answer.status === 409 || answer.status === 429) {
      htmx.swap(byId("content"), await answer.text(), { swapStyle: "none" });
      sayRefusal();
      return answer.ok ? "" : "undone";
    }
    return { 401: "signed-out", 404: "gone" }[answer.status] ?? "undone";
  };

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "actions" || !event.submitter) return;
    event.preventDefault();
    act(event.submitter);
  });

  // -- Copying --------------------------------------------------------------------------------------------------------

  // The file's own guard against formulas: a spreadsheet runs a pasted cell as it would run one from a file.
  const guarded = (text) => (/^'*[=+\-@\t\r]/.test(text) && !/^-\d+(\.\d+)?$/.test(text) ? `'${text}` : text);
  // The page shows control characters as symbols; a copy gets them back.
  const original = (element, read) => {
    const chars = [...element.querySelectorAll(".char")], symbols = chars.map((char) => char.textContent);
    for (const char of chars) char.textContent = String.fromCodePoint(Number(char.dataset.code));
    const text = read();
    chars.forEach((char, place) => { char.textContent = symbols[place]; });
    return text;
  };
  const named = (heading) => [...heading.childNodes].filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent).join("");
  const cell = (element) => {
    if (element.matches(".none") || element.querySelector(".none")) return "";
    const time = element.querySelector("time");
    const name = element.closest("thead") ? named(element) : element.textContent;
    return guarded((time?.dateTime || name).replace(/[\t\r\n]+/g, " ").trim());
  };
  const COPIES = {
    code: (button) => button.closest(".block").querySelector(".code").textContent,
    answer: (button) => [...button.closest(".answer").querySelectorAll(".prose, .code, .grid")]
      .filter((part) => !part.parentElement.closest(".prose"))
      .map((part) => (part.matches(".grid") ? [...part.rows].map((row) => [...row.cells].map(cell).join("\t")).join("\n")
        : part.innerText)).join("\n\n"),
  };

  // What the server writes: all rows, not those shown; each copy stands in the ledger.
  const fetched = async (button) => {
    const answer = await fetch(button.dataset.from, { headers: { Accept: "text/plain" }, redirect: "manual" });
    if (!answer.ok) throw new Error("not copied");
    return answer.text();
  };

  const toClipboard = async (text) => {
    if (navigator.clipboard) {
      // Made at once: a browser lets the clipboard be written only just after a click, and the text may take longer.
      const blob = Promise.resolve(text).then((whole) => new Blob([whole], { type: "text/plain" }));
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
      return;
    }
    text = await text;
    // The clipboard API needs HTTPS or localhost.
    const box = document.createElement("textarea");
    box.value = text;
    box.className = "hush";
    document.body.append(box);
    box.select();
    const isCopied = document.execCommand("copy");
    box.remove();
    if (!isCopied) throw new Error("not copied");
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const label = button.querySelector("span");
    let word = "Copied";
    try {
      const whole = button.closest(".answer, .block") ?? document.body;
      const text = button.dataset.copy === "export" ? fetched(button) : original(whole, () => COPIES[button.dataset.copy](button));
      await toClipboard(text);
      button.closest(".menu")?.hidePopover?.();
    } catch {
      word = "Not copied";
    }
    say(word === "Copied" ? "Copied" : "Copying is not allowed here");
    if (!label || button.dataset.word) return;
    button.dataset.word = label.textContent;
    label.textContent = word;
    setTimeout(() => { label.textContent = button.dataset.word; delete button.dataset.word; }, 1500);
  });

  // -- Tables ---------------------------------------------------------------------------------------------------------

  // The rows shown, by one column: numbers by value, times by instant, empty cells last; a third press gives them back.
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
  const orders = new WeakMap();
  const ofCell = (row, place) => {
    const found = row.cells[place];
    if (found.matches(".none") || found.querySelector(".none")) return null;
    const text = found.querySelector("time")?.dateTime || found.textContent.trim();
    return found.matches(".number") && text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  const byCell = (place, sign) => (one, other) => {
    const a = ofCell(one, place), b = ofCell(other, place);
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".sort"), heading = button?.closest("th");
    if (!heading) return;
    const body = heading.closest("table").tBodies[0], rows = [...body.rows];
    if (!orders.has(body) || orders.get(body).length !== rows.length) orders.set(body, rows);
    const order = NEXT[heading.ariaSort ?? "none"] ?? "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    if (order !== "none") heading.ariaSort = order;
    for (const icon of heading.parentElement.querySelectorAll(".sort use")) {
      const shape = icon.closest("th") !== heading ? "sort" : { ascending: "up", descending: "down" }[order] ?? "sort";
      icon.setAttribute("href", icon.getAttribute("href").replace(/#.*/, `#${shape}`));
    }
    const sorted = order === "none" ? orders.get(body)
      : [...orders.get(body)].sort(byCell(heading.cellIndex, order === "ascending" ? 1 : -1));
    body.append(...sorted);
    say(order === "none" ? "Unsorted" : `Sorted by ${button.textContent.trim()}, ${order}`);
  });

  // A download leaves the page as it is, and its menu open.
  document.addEventListener("click", (event) => event.target.closest(".menu a[download]")?.closest(".menu").hidePopover?.());

  // -- Opening in Excel -----------------------------------------------------------------------------------------------

  const token = () => document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-open]");
    if (!button || button.ariaDisabled === "true") return;
    const label = button.querySelector("span"), word = label.textContent;
    button.ariaDisabled = "true";
    label.textContent = "Making the workbook…";
    try {
      const answer = await fetch(button.dataset.open, {
        method: "POST", headers: { Accept: "application/json", "X-CSRFToken": token() }, redirect: "manual",
      });
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.error?.message);
      location.href = said.opens;
      label.textContent = word;
    } catch (error) {
      label.textContent = "Not opened";
      byId("live-errors").textContent = error.message || "The workbook could not be made.";
      setTimeout(() => { label.textContent = word; }, 3000);
    }
    button.ariaDisabled = "false";
  });

  // -- Theme ----------------------------------------------------------------------------------------------------------

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "theme-menu" || !event.submitter) return;
    event.preventDefault();
    const { value } = event.submitter, body = new FormData(event.target, event.submitter);
    fetch(event.target.action, { method: "POST", body, redirect: "manual" });
    if (value === "system") delete page.dataset.theme;
    else page.dataset.theme = value;
    for (const button of event.target.querySelectorAll("button")) button.ariaPressed = String(button === event.submitter);
    event.target.hidePopover?.();
  });

  // -- Start ----------------------------------------------------------------------------------------------------------

  document.addEventListener("DOMContentLoaded", () => {
    const box = byId("message");
    if (box) {
      if (!box.value) box.value = sessionStorage.getItem(draftKey()) ?? "";
      if (matchMedia("(pointer: fine)").matches) box.focus();
    }
    for (const run of runs()) if (!isUnfinished(run)) said.set(run.id, ENDINGS[run.dataset.runStatus]);
    showConnection();
    if (location.hash.startsWith("#message-") && byId(location.hash.slice(1)) !== document.querySelector(".answer:last-of-type")) {
      isAtEnd = gap() < 48;
      showJump();
    } else changed();
  });
})();
