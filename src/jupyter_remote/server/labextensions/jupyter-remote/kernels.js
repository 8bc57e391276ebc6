// What a page of JupyterLab or Notebook does better with a kernel of ours:
//
// * They ask for the list of kernels once a minute. This has them ask when the server says that the list
//   has changed: see server/watcher.py.
// * A kernel's connection that breaks is opened again, and nobody but the page knows what it has got by
//   then. This has it say so, so that nothing comes twice: see keeper/browser.py.
// * A page shows what cells print that it has started itself. This has it show also what runs already when
//   it is loaded: see server/runs.py.
// * A kernel that is gone, after a reboot for example, is "disconnected". This says so in words, and offers
//   a new one.
// * They draw all that a cell has printed anew for each message, as one text, and look for links in all of it: a
//   page with a million lines freezes. This has them draw long texts in pieces, each of them once.
// * Nobody is told when a cell ends that took an hour. This tells it: in the page, its title and on the desktop.
// * How things stand with the server is said in a terminal. This adds the page that says it to the Help menu.
//
// Written by hand as the container that a bundler would make of it: see loadComponent() and createModule()
// in JupyterLab's bootstrap.js and index.out.js.
(() => {
  'use strict';

  const SCHEMA = 'https://events.jupyter-remote.invalid/kernelspecs/v1';

  const list = {
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

  // The number that the keeper has put at the beginning of a message's metadata, or NaN. The fourth of the
  // offsets at the beginning of a message of v1.kernel.websocket.jupyter.org is the metadata's.
  const numberOf = data => {
    const view = new DataView(data);
    const [begin, end] = [4, 5].map(index => Number(view.getBigUint64(8 * index, true)));
    const text = new TextDecoder().decode(new Uint8Array(data, begin, Math.min(end - begin, 64)));
    return Number(/^\{"jupyter_remote":(\d+)/.exec(text)?.[1] ?? NaN);
  };

  const counting = WebSocket => {
    // By session: it is the same one when a page connects again.
    const numbers = new Map();
    return class extends WebSocket {
      constructor(url, protocols) {
        const address = new URL(url, location.href);
        const session = address.searchParams.get('session_id');
        const counts = session && /\/api\/kernels\/[^/]+\/channels$/.test(address.pathname);
        if (counts) {
          address.searchParams.set('after', numbers.get(session) ?? 0);
        }
        super(counts ? address.href : url, protocols);
        if (counts) {
          this.addEventListener('message', ({ data }) => {
            const number = data instanceof ArrayBuffer ? numberOf(data) : NaN;
            if (number) {
              numbers.set(session, number);
            }
          });
        }
      }
    };
  };

  const connections = {
    id: 'jupyter-remote:connections',
    description: 'Has nothing that a kernel says come twice when a connection broke.',
    autoStart: true,
    activate: app => {
      const settings = app.serviceManager.serverSettings;
      settings.WebSocket = counting(settings.WebSocket);
    }
  };

  // -- what runs already -------------------------------------------------------------------------------

  // A cell that somebody else has started; its output is kept as JupyterLab's OutputArea does it.
  class Followed {
    constructor(cell, { begun, count }) {
      this.cell = cell;
      this.count = count;
      this.displays = new Map();
      if (!begun) {
        this.begins = true;
      }
      cell.model.executionState = 'running';
      cell.setPrompt('*');
    }

    // Takes a message; whether more will come.
    take({ header, content }) {
      const outputs = this.cell.outputArea.model;
      const { transient, ...rest } = content;
      const output = { ...rest, output_type: header.msg_type };
      switch (header.msg_type) {
        case 'execute_input':
          this.count = content.execution_count;
          if (this.begins) {
            outputs.clear();
          }
          break;
        case 'stream':
        case 'error':
          outputs.add(output);
          break;
        case 'display_data':
        case 'execute_result': {
          const length = outputs.add(output);
          const id = transient?.display_id;
          if (id) {
            this.displays.set(id, [...(this.displays.get(id) ?? []), length - 1]);
          }
          break;
        }
        case 'update_display_data':
          for (const index of this.displays.get(transient?.display_id) ?? []) {
            outputs.set(index, { ...output, output_type: 'display_data' });
          }
          break;
        case 'clear_output':
          this.displays.clear();
          outputs.clear(content.wait);
          break;
        case 'status':
          if (content.execution_state === 'idle') {
            this.cell.model.executionState = 'idle';
            this.cell.model.executionCount = this.count;
            this.cell.setPrompt(`${this.count ?? ''}`);
            return false;
          }
      }
      return true;
    }
  }

  const follow = async (panel, kernel) => {
    const early = [];
    let followed = null;
    const take = message => {
      const request = message.parent_header?.msg_id;
      if (followed.has(request) && !followed.get(request).take(message)) {
        followed.delete(request);
      }
      if (!followed.size) {
        kernel.iopubMessage.disconnect(listen);
      }
    };
    const listen = (_, message) => (followed ? take(message) : early.push(message));
    kernel.iopubMessage.connect(listen);
    await panel.context.ready;
    await panel.revealed;
    const { baseUrl, fetch, init } = kernel.serverSettings;
    const url = `${baseUrl}api/kernels/${encodeURIComponent(kernel.id)}/running`;
    const answer = await fetch(url, { ...init, cache: 'no-store' });
    const found = new Map();
    for (const run of answer.ok ? await answer.json() : []) {
      const cell = panel.content.widgets.find(({ model }) => model.id === run.cell && model.type === 'code');
      if (cell && run.session !== kernel.clientId) {
        found.set(run.request, new Followed(cell, run));
      }
    }
    followed = found;
    if (!followed.size) {
      kernel.iopubMessage.disconnect(listen);
    }
    early.forEach(take);
  };

  const running = INotebookTracker => ({
    id: 'jupyter-remote:running',
    description: 'Shows what cells print that ran already when the page was loaded.',
    autoStart: true,
    requires: [INotebookTracker],
    activate: (app, notebooks) => {
      const attach = (panel, kernel) =>
        kernel &&
        follow(panel, kernel).catch(reason => {
          console.warn('It could not be asked what runs in this notebook.', reason);
        });
      notebooks.widgetAdded.connect((_, panel) => {
        attach(panel, panel.sessionContext.session?.kernel);
        panel.sessionContext.kernelChanged.connect((_, { newValue }) => attach(panel, newValue));
      });
    }
  });

  // -- kernels that are gone ---------------------------------------------------------------------------

  const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

  // Whether the server says that there is no such kernel; it may be away itself meanwhile.
  const isGone = async (id, context) => {
    const { baseUrl, fetch, init } = context.session?.serverSettings ?? context.sessionManager.serverSettings;
    try {
      return (await fetch(`${baseUrl}api/kernels/${encodeURIComponent(id)}`, { ...init, cache: 'no-store' })).status === 404;
    } catch {
      return false;
    }
  };

  // A new kernel for a notebook. Its session went with the old one, and JupyterLab does not know that yet.
  const another = async (context, name) => {
    context.session?.dispose();
    await context.changeKernel({ name });
  };

  const ends = (INotebookTracker, Notification) => ({
    id: 'jupyter-remote:ends',
    description: 'Says that the kernel of a notebook is gone.',
    autoStart: true,
    requires: [INotebookTracker],
    activate: (app, notebooks) => {
      const look = async (panel, id, name) => {
        const context = panel.sessionContext;
        while (!panel.isDisposed && context.kernelDisplayStatus !== 'idle') {
          if (await isGone(id, context)) {
            Notification.warning(
              // More than 140 characters would be cut off.
              `The kernel of ${panel.context.localPath.split('/').pop()} is gone: the machine was restarted, or ` +
                'somebody has stopped it. Its output is in the notebook.',
              { autoClose: false, actions: [{ label: 'Start a new kernel', callback: () => another(context, name) }] }
            );
            return;
          }
          await wait(3000);
        }
      };
      notebooks.widgetAdded.connect((_, panel) => {
        let { id, name } = panel.sessionContext.session?.kernel ?? {};
        let looking = false;
        panel.sessionContext.kernelChanged.connect((_, { newValue }) => {
          ({ id, name } = newValue ?? { id, name });
        });
        panel.sessionContext.connectionStatusChanged.connect(async (_, status) => {
          if (status !== 'connected' && id && !looking) {
            looking = true;
            await look(panel, id, name);
            looking = false;
          }
        });
      });
    }
  });

  // -- long texts --------------------------------------------------------------------------------------

  // Characters of a text that is drawn in pieces, and of a piece at least: it ends with a line.
  const LONG = 1 << 18;
  const PIECE = 1 << 16;

  const endOf = (text, begin) => text.indexOf('\n', begin + PIECE) + 1 || text.length;

  // The colours and so on that are in force at the end of a text.
  const coloursOf = text => {
    const codes = text.match(/\x1b\[[\d;]*m/g) ?? [];
    return codes.slice(codes.findLastIndex(code => /^\x1b\[0?m$/.test(code)) + 1).join('');
  };

  // Draws a stream: as JupyterLab does it, but a long one piece by piece.
  const inPieces = (factory, options) => {
    const whole = factory.createRenderer(options);
    const draw = whole.renderModel.bind(whole);
    // Of a long text: what draws each piece, the text before the last piece, and its colours.
    let pieces = [];
    let before = '';
    let colours = '';
    const clear = () => {
      pieces.forEach(piece => piece.dispose());
      pieces = [];
      before = colours = '';
      whole.node.replaceChildren();
    };
    const add = () => {
      const piece = factory.createRenderer(options);
      piece.node.style.padding = '0';
      piece.node.style.contentVisibility = 'auto';
      pieces.push(piece);
      whole.node.append(piece.node);
    };
    const drawLast = async text => {
      const piece = pieces.at(-1);
      const lines = text.split('\n').length;
      const height = 'var(--jp-code-line-height) * var(--jp-code-font-size)';
      piece.node.style.containIntrinsicSize = `auto calc(${lines} * ${height})`;
      // The end of a block is the end of a line.
      const data = { [options.mimeType]: colours + text.replace(/\n$/, '') };
      await piece.renderModel({ data, metadata: {}, trusted: false, setData() {} });
    };
    whole.renderModel = async model => {
      const text = String(model.data[options.mimeType] ?? '');
      if (pieces.length && !(text.length >= LONG && text.startsWith(before))) {
        clear();
      }
      if (text.length < LONG) {
        return draw(model);
      }
      if (!pieces.length) {
        whole.node.replaceChildren();
        add();
      }
      for (;;) {
        const end = endOf(text, before.length);
        const last = text.slice(before.length, end);
        const drawing = drawLast(last);
        if (end === text.length) {
          return drawing;
        }
        before = text.slice(0, end);
        colours = coloursOf(colours + last);
        add();
      }
    };
    whole.disposed.connect(() => pieces.forEach(piece => piece.dispose()));
    return whole;
  };

  const streams = IRenderMimeRegistry => ({
    id: 'jupyter-remote:streams',
    description: 'Draws what cells print in pieces when it is long.',
    autoStart: true,
    requires: [IRenderMimeRegistry],
    activate: (app, registry) => {
      const mimeTypes = ['application/vnd.jupyter.stdout', 'application/vnd.jupyter.stderr'];
      const factory = registry.getFactory(mimeTypes[0]);
      const rank = factory?.defaultRank;
      if (factory) {
        registry.addFactory({ ...factory, mimeTypes, createRenderer: options => inPieces(factory, options) }, rank);
      }
    }
  });

  // -- cells that take long ----------------------------------------------------------------------------

  const NOTICES = 'jupyter-remote:notices';

  // The title has a mark until somebody looks at the page. JupyterLab writes it anew whenever it likes: when a
  // notebook is saved, or another tab is looked at.
  const title = { mark: '', plain: '', marked: '' };
  const putMark = () => {
    if (document.title !== title.marked) {
      title.plain = document.title;
    }
    document.title = `${title.mark} ${title.plain}`;
    // As it is read: without double blanks.
    title.marked = document.title;
  };
  const titleKeeper = new MutationObserver(() => document.title === title.marked || putMark());
  const restoreTitle = () => {
    titleKeeper.disconnect();
    document.title = title.plain;
    title.mark = '';
  };
  const markTitle = mark => {
    if (!title.mark) {
      window.addEventListener('focus', restoreTitle, { once: true });
      titleKeeper.observe(document.head, { subtree: true, childList: true, characterData: true });
    }
    title.mark = mark;
    putMark();
  };

  const notices = (NotebookActions, Notification, ISettingRegistry) => ({
    id: NOTICES,
    description: 'Says when a cell has ended that took long, to somebody who looks elsewhere.',
    autoStart: true,
    requires: [ISettingRegistry],
    activate: async (app, registry) => {
      // When a cell was to run, and when one of its notebook has ended before it: the rest it was waiting.
      const begun = new WeakMap();
      const ended = new WeakMap();
      const settings = await registry.load(NOTICES);
      const tell = (name, success, minutes) => {
        const text = `A cell of ${name} ${success ? 'is done' : 'has failed'} after ${minutes} min.`;
        markTitle(success ? '\u2714' : '\u2718');
        const desktop = window.Notification;
        const ask = { label: 'Tell me on the desktop', callback: () => desktop.requestPermission() };
        const actions = desktop?.permission === 'default' ? [ask] : [];
        Notification.emit(text, success ? 'success' : 'error', { autoClose: false, actions });
        if (desktop?.permission === 'granted') {
          // Last: a telephone refuses it here.
          const notice = new desktop(text, { tag: `jupyter-remote ${name}` });
          notice.onclick = () => window.focus();
        }
      };
      NotebookActions.executionScheduled.connect((_, { cell }) => begun.set(cell, Date.now()));
      NotebookActions.executed.connect((_, { notebook, cell, success }) => {
        const now = Date.now();
        const seconds = (now - Math.max(begun.get(cell) ?? now, ended.get(notebook) ?? 0)) / 1000;
        ended.set(notebook, now);
        const least = settings.get('seconds').composite;
        if (least && seconds >= least && !document.hasFocus()) {
          const panel = notebook.parent;
          tell(panel?.context?.localPath.split('/').pop() ?? 'a notebook', success, Math.max(1, Math.round(seconds / 60)));
        }
      });
    }
  });

  // -- status ------------------------------------------------------------------------------------------

  const status = (IMainMenu, ICommandPalette, MainAreaWidget, IFrame) => ({
    id: 'jupyter-remote:status',
    description: 'Shows how things stand with the server, kernels and disks.',
    autoStart: true,
    optional: [IMainMenu, ICommandPalette],
    activate: (app, menu, palette) => {
      const command = 'jupyter-remote:status';
      const url = `${app.serviceManager.serverSettings.baseUrl}status`;
      let tab;
      app.commands.addCommand(command, {
        label: 'Status of This Server',
        execute: () => {
          // Notebook shows one thing at a time.
          if (app.name !== 'JupyterLab') {
            window.open(url, '_blank', 'noopener');
            return;
          }
          if (!tab || tab.isDisposed) {
            const content = new IFrame({ sandbox: ['allow-same-origin', 'allow-scripts'] });
            content.url = url;
            tab = new MainAreaWidget({ content });
            tab.id = 'jupyter-remote-status';
            tab.title.label = 'Status';
            tab.title.closable = true;
            app.shell.add(tab, 'main');
          }
          app.shell.activateById(tab.id);
        }
      });
      menu?.helpMenu.addGroup([{ command }], 0);
      palette?.addItem({ command, category: 'Help' });
    }
  });

  let scope;
  const shared = async name => {
    const [version] = Object.values(scope[name]);
    return (await version.get())();
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['jupyter-remote'] = {
    init: given => {
      scope = given;
    },
    get: async () => {
      const { INotebookTracker, NotebookActions } = await shared('@jupyterlab/notebook');
      const { ICommandPalette, IFrame, MainAreaWidget, Notification } = await shared('@jupyterlab/apputils');
      const { IMainMenu } = await shared('@jupyterlab/mainmenu');
      const { IRenderMimeRegistry } = await shared('@jupyterlab/rendermime');
      const { ISettingRegistry } = await shared('@jupyterlab/settingregistry');
      const plugins = [
        list,
        connections,
        running(INotebookTracker),
        ends(INotebookTracker, Notification),
        streams(IRenderMimeRegistry),
        notices(NotebookActions, Notification, ISettingRegistry),
        status(IMainMenu, ICommandPalette, MainAreaWidget, IFrame)
      ];
      return () => ({ __esModule: true, default: plugins });
    }
  };
})();
