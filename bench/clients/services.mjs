// @jupyterlab/services, which VS Code and JupyterLab talk to Jupyter with, in Node.js and with a token.
//
//   npm install @jupyterlab/services@7
//   node services.mjs https://<server>/jupyter/ TOKEN ['sudo systemctl restart jupyter-remote']
//
// The command, if there is one, is run while a cell runs. The machine's own certificate: NODE_EXTRA_CA_CERTS=ca.crt
import assert from 'node:assert';
import { execSync } from 'node:child_process';
import { createRequire } from 'node:module';

const { KernelManager, ServerConnection } = createRequire(`${process.cwd()}/`)('@jupyterlab/services');
const [baseUrl, token, restart] = process.argv.slice(2);
const serverSettings = ServerConnection.makeSettings({
  baseUrl,
  wsUrl: baseUrl.replace(/^http/, 'ws'),
  token,
  appendToken: true
});

const run = async (kernel, code, onOutput = () => {}) => {
  const done = { text: '', value: '' };
  const future = kernel.requestExecute({ code });
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === 'stream') {
      done.text += content.text;
    } else if (header.msg_type === 'execute_result') {
      done.value = content.data['text/plain'];
    } else if (header.msg_type === 'error') {
      done.error = content.ename;
    }
    onOutput(done);
  };
  await future.done;
  return done;
};

const kernels = new KernelManager({ serverSettings });
await kernels.ready;
const kernel = await kernels.startNew({ name: 'python3' });
const statuses = [];
kernel.connectionStatusChanged.connect((_, status) => statuses.push(status));

assert.equal((await run(kernel, '6 * 7')).value, '42');
let once = restart;
const counted = await run(kernel, 'import time\nfor n in range(30):\n    print(n)\n    time.sleep(0.1)', () => {
  if (once) {
    execSync(once, { stdio: 'inherit' });
    once = undefined;
  }
});
assert.equal(counted.text, Array.from({ length: 30 }, (_, n) => `${n}\n`).join(''));
console.log('executed; connection:', statuses.join(' ') || 'as before');

const sleeping = run(kernel, 'time.sleep(600)');
await new Promise(done => setTimeout(done, 1000));
await kernel.interrupt();
assert.equal((await sleeping).error, 'KeyboardInterrupt');
console.log('interrupted');

await kernel.restart();
assert.equal((await run(kernel, "'time' in dir()")).value, 'False');
console.log('restarted');

await kernel.shutdown();
await kernels.refreshRunning();
assert(!Array.from(kernels.running()).some(({ id }) => id === kernel.id));
console.log('shut down');
process.exit(0);
