// A login link is …/login?link#token=TOKEN. What is behind the # stays in the browser: this sends it.
const token = new URLSearchParams(location.hash.slice(1)).get('token');
// It must not stay in the address bar, nor in the history.
history.replaceState(null, '', location.pathname + location.search);
const form = document.getElementById('link');
if (token) {
  form.elements.link.value = token;
  form.submit();
} else {
  const notice = document.getElementById('following');
  notice.className = 'error';
  notice.textContent = 'This login link is not complete: its end is missing. Copy all of it.';
}
