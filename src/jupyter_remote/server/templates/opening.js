// A page of JupyterLab or Notebook, until it is open: called with the addresses of what it will ask the server for.
//
// * It asks for one thing after the other, as its parts come to life; each of these steps costs a round trip. Here all
//   is asked for at once, and handed over when the page asks. What the browser has still is not sent again: JupyterLab
//   itself forbids its browser to remember.
// * A connection that breaks leaves a page without one of its scripts, which is empty for ever then, or without the
//   list of kernels. Apache closes a connection with all that is on its way when one request of it is called off in
//   the wrong moment (mod_http2's on_frame_not_send_cb), as happens when a page is left before it is complete. Here
//   the page begins again.
(places => {
  "use strict";

  const ask = window.fetch;
  const answers = new Map();
  let leaving = false;
  let mending = false;

  const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

  // The application is shown when all that starts with it has started.
  const isOpen = () => document.querySelector("body > .lm-Widget") !== null;

  // The same for each of JupyterLab's requests, which have the time in them.
  const address = url => `${url.pathname}${url.search.replace(/[?&]\d{13}$/, "")}`;

  // Pages ask for these every ten seconds, so that a file or a kernel of elsewhere is seen: the list of a directory and
  // what runs. They forbid their browser to remember, and get all of it each time, changed or not. (With a type it is
  // the content of a file: that is left to nobody's disk.)
  const remembered = resource => {
    const url = new URL(resource.url);
    const isList = /\/api\/(kernels|sessions|terminals|kernelspecs|contents)(\/|$)/.test(url.pathname);
    return isList && !url.searchParams.has("type")
      ? new Request(new Request(address(url), resource), { cache: "no-cache" })
      : resource;
  };

  const persist = async (resource, options) => {
    for (const milliseconds of isOpen() ? [300] : [300, 1000, 3000]) {
      try {
        return await ask(resource, options);
      } catch (error) {
        if (error.name === "AbortError" || options?.signal?.aborted || resource.signal?.aborted) {
          throw error;
        }
        await wait(milliseconds);
      }
    }
    return ask(resource, options);
  };

  const early = place => {
    const found = answers.get(place);
    if (found) {
      // What is in motion is as it was for one who asks for the first time, and no more for the second.
      if (/\/api\/(kernels|sessions|terminals|contents|workspaces)\b/.test(place)) {
        answers.delete(place);
      }
      return found.then(answer => answer.clone());
    }
    // One of them, and what they are called, is in the list of all.
    const [, all, id] = /^(.*\/lab\/api\/settings)(?:\/([^?]+)|\?ids_only=true)$/.exec(place) ?? [];
    return answers
      .get(all)
      ?.then(answer => answer.clone().json())
      .then(({ settings }) =>
        id ? settings.find(one => one.id === decodeURIComponent(id)) : { settings: settings.map(({ id }) => ({ id })) }
      )
      .then(one => one && Response.json(one));
  };

  window.fetch = async (resource, options) => {
    const url = new URL(resource.url ?? resource, location.href);
    if (url.origin !== location.origin) {
      return ask(resource, options);
    }
    if ((options?.method ?? resource.method ?? "GET").toUpperCase() !== "GET") {
      // Whatever it changes: only what does not depend on it is as it was.
      for (const place of answers.keys()) {
        if (!/\/(api\/(me|kernelspecs)|lsp\/status)$|\/lab\/api\//.test(place) || url.pathname.includes("/lab/api/")) {
          answers.delete(place);
        }
      }
      return ask(resource, options);
    }
    try {
      const answer = await early(address(url));
      if (answer?.ok) {
        return answer;
      }
    } catch {
      // then as if it had not been asked for
    }
    return persist(resource instanceof Request ? remembered(resource) : resource, options);
  };

  // From then on somebody works with the page, and wants to know what is.
  for (const event of ["pointerdown", "keydown"]) {
    window.addEventListener(event, () => isOpen() && answers.clear(), { capture: true });
  }
  window.addEventListener("load", () => setTimeout(() => answers.clear(), 60_000));

  // A page that is left lacks scripts too.
  for (const event of ["beforeunload", "pagehide", "pageshow"]) {
    window.addEventListener(event, () => (leaving = event !== "pageshow"), { capture: true });
  }

  // Whether it may begin again: one that has just done so is no better the next time.
  const mayBegin = () => {
    const key = "jupyter-remote-begun";
    try {
      const begun = JSON.parse(sessionStorage.getItem(key) ?? "[]").filter(time => Date.now() - time < 120_000);
      sessionStorage.setItem(key, JSON.stringify([...begun, Date.now()]));
      return begun.length < 3;
    } catch {
      return false;
    }
  };

  window.addEventListener(
    "error",
    async ({ target }) => {
      // Those that it opens with; what notebooks bring is theirs.
      const needed = target instanceof HTMLScriptElement && /\/static\/(lab|notebook)\/|\/lab\/extensions\//;
      if (!needed || !target.src.startsWith(`${location.origin}/`) || !needed.test(target.src) || mending) {
        return;
      }
      mending = true;
      for (let milliseconds = 300; !isOpen() && !leaving; milliseconds = 2000) {
        await wait(milliseconds);
        try {
          const { ok } = await ask(target.src);
          if (ok && !isOpen() && !leaving && mayBegin()) {
            location.reload();
          }
          // One that is not there is not there the next time either.
          break;
        } catch {
          const sight = document.getElementById("jupyter-remote-opening");
          sight?.setAttribute("data-says", "There is no connection. This page goes on as soon as there is one.");
        }
      }
      mending = false;
    },
    true
  );

  for (const place of places) {
    const answer = persist(place, { cache: "no-cache" });
    answer.catch(() => {});
    answers.set(address(new URL(place, location.href)), answer);
  }
})
