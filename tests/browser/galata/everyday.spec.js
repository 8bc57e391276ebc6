// What people do in JupyterLab all day, by the helpers that its developers keep working for those who test extensions.
const { expect, test } = require('@jupyterlab/galata');

const NOTEBOOK = 'everyday.ipynb';

// JupyterLab forgets a cell that is run before there is a kernel.
const makeNotebook = async page => {
  await page.notebook.createNew(NOTEBOOK, { kernel: 'python3' });
  await page.locator('#jp-main-statusbar').getByText('Idle').waitFor();
};

test('a notebook is made, run, saved and opened again', async ({ page, tmpPath }) => {
  await makeNotebook(page);
  await page.notebook.setCell(0, 'code', 'answer = 6 * 7\nprint(answer)');
  await page.notebook.addCell('markdown', '# A heading');
  await page.notebook.addCell('code', 'answer + 1');
  await page.notebook.run();
  expect(await page.notebook.getCellTextOutput(0)).toEqual(['42\n']);
  expect(await page.notebook.getCellTextOutput(2)).toEqual(['43']);
  await page.notebook.save();
  await page.notebook.close();

  await page.notebook.openByPath(`${tmpPath}/${NOTEBOOK}`);
  await page.notebook.activate(NOTEBOOK);
  expect(await page.notebook.getCellCount()).toBe(3);
  expect(await page.notebook.getCellTextOutput(2)).toEqual(['43']);
});

test('a kernel is restarted, and the notebook run again', async ({ page }) => {
  await makeNotebook(page);
  await page.notebook.setCell(0, 'code', "'before' in dir()");
  await page.notebook.addCell('code', 'before = 1');
  await page.notebook.run();
  await page.menu.clickMenuItem('Kernel>Restart Kernel and Run All Cells…');
  await page.getByRole('button', { name: 'Confirm Kernel Restart' }).click();
  await expect.poll(() => page.notebook.getCellTextOutput(0)).toEqual(['False']);
});

test('files are uploaded, shown, renamed and deleted', async ({ page, tmpPath }) => {
  await page.contents.uploadContent('a,b\n1,2\n', 'text', `${tmpPath}/table.csv`);
  await page.filebrowser.refresh();
  await page.filebrowser.open('table.csv');
  await expect(page.locator('.jp-CSVViewer')).toBeVisible();
  expect(await page.contents.renameFile(`${tmpPath}/table.csv`, `${tmpPath}/other.csv`)).toBeTruthy();
  await page.filebrowser.refresh();
  expect(await page.filebrowser.isFileListedInBrowser('other.csv')).toBeTruthy();
  expect(await page.contents.deleteFile(`${tmpPath}/other.csv`)).toBeTruthy();
});

test('a terminal answers', async ({ page, tmpPath }) => {
  await page.menu.clickMenuItem('File>New>Terminal');
  const terminal = page.locator('.jp-Terminal');
  await terminal.waitFor();
  await terminal.locator('.xterm-screen').click();
  await page.keyboard.type(`touch ~/${tmpPath}/made-in-a-terminal`);
  await page.keyboard.press('Enter');
  await expect.poll(() => page.contents.fileExists(`${tmpPath}/made-in-a-terminal`)).toBe(true);
});

test('the debugger stops, and shows variables', async ({ page }) => {
  await makeNotebook(page);
  await page.notebook.setCell(0, 'code', 'seen = 17\nprint(seen)');
  await page.debugger.switchOn();
  await page.waitForCondition(() => page.debugger.isOpen());
  await page.notebook.waitForCellGutter(0);
  await page.notebook.clickCellGutter(0, 2);
  await page.debugger.waitForBreakPoints();
  page.notebook.run();
  await page.debugger.waitForCallStack();
  await page.debugger.waitForVariables();
  await expect((await page.debugger.getVariablesPanelLocator()).getByText('17')).toBeVisible();
  await page.locator('jp-button[title^=Continue]').click();
  await expect.poll(() => page.notebook.getCellTextOutput(0)).toEqual(['17\n']);
});

test('the looks are changed, and the panels opened', async ({ page }) => {
  await page.theme.setDarkTheme();
  expect(await page.theme.getTheme()).toBe('JupyterLab Dark');
  for (const panel of ['filebrowser', 'jp-running-sessions', 'table-of-contents']) {
    await page.sidebar.openTab(panel);
    expect(await page.sidebar.isTabOpen(panel)).toBeTruthy();
  }
});
