// JupyterLab and Notebook ask for the list of kernels once a minute. This has them ask when the server
// says that the list has changed: see server/watcher.py.
//
// Written by hand as the container that a bundler would make of it. It needs nothing of anybody, so it
// shares nothing; see loadComponent() and createModule() in JupyterLab's bootstrap.js and index.out.js.
(() => {
  'use strict';

  const SCHEMA = 'https://events.jupyter-remote.invalid/kernelspecs/v1';

  const plugin = {
    id: 'jupyter-remote:kernels',
    description: 'Shows new environments as soon as they are there.',
    autoStart: true,
    activate: app => {
      const { events, kernelspecs } = app.serviceManager;
      events.stream.connect((_, event) => {
        if (event.schema_id === SCHEMA) {
          kernelspecs.refreshSpecs().catch(reason => {
            console.warn('The list of kernels could not be asked for again.', reason);
          });
        }
      });
    }
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['jupyter-remote'] = {
    init: () => {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin }))
  };
})();
