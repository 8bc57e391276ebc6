// How things stand: asks for the facts while somebody looks, and shows them.
'use strict';
(() => {
  // Milliseconds between two looks.
  const LOOK = 5000;
  const list = document.getElementById('facts');
  const table = document.getElementById('kernels');
  const news = document.getElementById('news');

  const make = (name, text, className = '') => {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = className;
    return made;
  };

  const size = bytes => {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let power = 0;
    for (; bytes >= 1000 && power < units.length - 1; power++) {
      bytes /= 1024;
    }
    return `${bytes >= 10 || power === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[power]}`;
  };

  const ago = seconds => {
    const passed = new Intl.RelativeTimeFormat('en', { style: 'long' });
    const age = Date.now() / 1000 - seconds;
    const [unit, length] = [['day', 86400], ['hour', 3600], ['minute', 60]].find(([, each]) => age >= each) ?? [];
    return unit ? passed.format(-Math.floor(age / length), unit) : 'just now';
  };

  const factsOf = status => {
    const last = status.last_login;
    const refused = status.last_refused;
    return [
      ['Address', status.address],
      ['Server', status.server + (status.memory_bytes ? `, ${size(status.memory_bytes)}` : '')],
      ['Certificate', status.certificate],
      ['Logged in', last && `${status.browsers}, the last ${ago(last.when)} from ${last.address} (${last.browser})`],
      ['Refused logins', refused && `${status.refused_logins} in a day, the last ${ago(refused.when)} from ${refused.address}`],
      ...status.disks.map(disk => ['Disk', `${size(disk.free_bytes)} of ${size(disk.total_bytes)} free at ${disk.place}`]),
      ['Memory', `${size(status.machine_free_bytes)} of ${size(status.machine_memory_bytes)} free`],
      ['Kernels', status.running?.length ? '' : 'none run']
    ].filter(([, value]) => value);
  };

  const kernelRow = kernel => {
    const row = document.createElement('tr');
    const memory = kernel.memory ? size(kernel.memory) : '';
    const limit = memory && kernel.memory_limit ? ` of ${size(kernel.memory_limit)}` : '';
    const cpu = kernel.cpu === null ? '' : `${Math.round(kernel.cpu)} %`;
    row.append(...[kernel.state, cpu, memory + limit, kernel.environment, kernel.notebook].map(text => make('td', text)));
    row.firstChild.className = kernel.state;
    return row;
  };

  const newsOf = status => {
    const tell = (one, className) => {
      const told = make('p', one.what, className);
      told.append(document.createElement('br'), make('code', one.hint));
      return told;
    };
    const told = [
      ...status.findings.map(one => tell(one, 'error')),
      ...status.notes.map(one => tell(one, 'notice'))
    ];
    return status.findings.length ? told : [make('p', 'All is well.', 'notice'), ...told];
  };

  const show = status => {
    list.replaceChildren(...factsOf(status).flatMap(([name, value]) => [make('dt', name), make('dd', value)]));
    table.hidden = !status.running?.length;
    table.tBodies[0].replaceChildren(...(status.running ?? []).map(kernelRow));
    news.replaceChildren(...newsOf(status));
  };

  // A tab of JupyterLab behind another one is in a window that is seen.
  const isSeen = () =>
    document.visibilityState === 'visible' && (window.frameElement?.checkVisibility?.({ visibilityProperty: true }) ?? true);

  const look = async () => {
    if (isSeen()) {
      try {
        const answer = await fetch(list.dataset.facts, { cache: 'no-store', redirect: 'error' });
        if (!answer.ok) {
          throw new Error(`The server answers ${answer.status}.`);
        }
        show(await answer.json());
      } catch (error) {
        news.replaceChildren(make('p', `This is not of now: the server could not be asked. ${error.message}`, 'error'));
      }
    }
    setTimeout(look, LOOK);
  };
  look();
})();
