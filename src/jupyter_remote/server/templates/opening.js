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
  const late = [300, 1000, 3000];
  let opening = true;

  const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

  // The same for each of JupyterLab's requests, which have the time in them.
  const address = url => `${url.pathname}${url.search.replace(/[?&]\d{13}$/, "")}`;

  const persist = async (resource, options) => {
    for (const milliseconds of opening ? late : late.slice(0, 1)) {
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

  const early = url => {
    const place = address(url);
    const found = answers.get(place);
    if (found) {
      // What is in motion is as it was for one who asks for the first time, and no more for the second.
      if (/\/api\/(kernels|sessions|terminals|contents|workspaces)\b/.test(place)) {
        answers.delete(place);
      }
      return found.then(answer => answer.clone());
    }
    // One of them is in the list of all.
    const [, all, id] = /^(.*\/lab\/api\/settings)\/([^?]+)$/.exec(place) ?? [];
    return answers
      .get(all)
      ?.then(answer => answer.clone().json())
      .then(({ settings }) => settings.find(one => one.id === decodeURIComponent(id)))
      .then(one => one && Response.json(one));
  };

  window.fetch = async (resource, options) => {
    const method = options?.method ?? resource.method ?? "GET";
    if (method !== "GET") {
      // Whatever it changes: only what does not depend on it is as it was.
      const url = resource.url ?? `${resource}`;
      for (const place of answers.keys()) {
        if (!/\/(api\/(me|kernelspecs)|lsp\/status)$|\/lab\/api\//.test(place) || url.includes("/lab/api/")) {
          answers.delete(place);
        }
      }
      return ask(resource, options);
    }
    try {
      const answer = await early(new URL(resource.url ?? resource, location.href));
      if (answer?.ok) {
        return answer;
      }
    } catch {
      // then as if it had not been asked for
    }
    return persist(resource, options);
  };

  const opened = () => {
    opening = false;
    answers.clear();
  };
  for (const event of ["pointerdown", "keydown", "beforeunload", "pagehide"]) {
    window.addEventListener(event, opened, { capture: true, once: true });
  }
  setTimeout(opened, 60_000);

  window.addEventListener(
    "error",
    async ({ target }) => {
      if (!(target instanceof HTMLScriptElement && target.src)) {
        return;
      }
      for (let milliseconds = 300; opening; milliseconds = 2000) {
        await wait(milliseconds);
        try {
          const { ok } = await ask(target.src);
          const begun = JSON.parse(sessionStorage.getItem("jupyter-remote-begun") ?? "[]");
          const recent = begun.filter(time => Date.now() - time < 120_000);
          // One that is not there, or does not run, is no better the next time.
          if (ok && opening && recent.length < 3) {
            sessionStorage.setItem("jupyter-remote-begun", JSON.stringify([...recent, Date.now()]));
            location.reload();
          }
          return;
        } catch {
          const sight = document.getElementById("jupyter-remote-opening");
          sight?.setAttribute("data-says", "There is no connection. This page goes on as soon as there is one.");
        }
      }
    },
    true
  );

  for (const place of places) {
    const answer = persist(place, { cache: "no-cache" });
    answer.catch(() => {});
    answers.set(address(new URL(place, location.href)), answer);
  }
})
