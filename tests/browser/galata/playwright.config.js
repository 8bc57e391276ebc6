// How the kit reaches a box. Everything that differs from one to the next is in the environment.
const { env } = process;

module.exports = {
  ...require('@jupyterlab/galata/lib/playwright-config'),
  testDir: env.GALATA_TESTS,
  outputDir: env.GALATA_RESULTS,
  reporter: [['line'], ['json', { outputFile: `${env.GALATA_RESULTS}.json` }]],
  workers: 1,
  // As patient as our own tests; a machine that tests has better things to do.
  timeout: 120_000,
  expect: { timeout: 60_000 },
  // Pictures of theirs were taken with other fonts.
  ignoreSnapshots: true,
  use: {
    baseURL: env.TARGET_URL,
    viewport: { width: 1024, height: 768 },
    permissions: ['clipboard-read', 'clipboard-write'],
    // Pages and websockets have the cookie, the kit's own requests the token.
    storageState: env.GALATA_COOKIES,
    extraHTTPHeaders: { Authorization: `token ${env.GALATA_TOKEN}` },
    launchOptions: {
      executablePath: env.GALATA_BROWSER,
      chromiumSandbox: false,
      args: ['--disable-lcd-text', ...JSON.parse(env.GALATA_FLAGS)]
    }
  }
};
