"""What we use of Jupyter and tornado beyond their documented interfaces is still there.

When one of these fails after an update, server/upstream.py (or the place named in the test) has to follow.
"""

from __future__ import annotations

import inspect
import json
import re
import socket
import sys
from pathlib import Path

import jsonschema._format
import jupyter_events
import jupyter_lsp
import jupyter_server
import jupyterlab_server
import nbformat
from jupyter_client import manager
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_lsp import LanguageServerManager
from jupyter_server import serverapp
from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.base.handlers import FileFindHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from jupyter_server.services.sessions.sessionmanager import SessionManager
from jupyter_server.services.shutdown import ShutdownHandler
from jupyter_server_terminals import api_handlers, app, handlers, terminalmanager
from jupyterlab import commands
from jupyterlab.labapp import LabApp
from notebook.app import JupyterNotebookApp
from running import Running
from terminado import management
from tornado import web
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import BaseIOStream, IOStream
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from jupyter_remote.server import config, late
from jupyter_remote.server.instance import Instance
from jupyter_remote.server.unit import Unit


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_tornado_keeps_the_handler_of_a_request_on_its_delegate():
    assert "self.handler = self.handler_class(" in source(web._HandlerDelegate)


def test_tornado_forgets_the_connection_of_a_websocket_that_is_closed():
    assert "self.ws_connection = None" in source(WebSocketHandler)


def test_tornado_takes_the_stream_from_a_connection_that_became_a_websocket():
    assert "self.stream = None" in source(HTTP1Connection.detach)
    assert "self.stream" in source(HTTP1ServerConnection.__init__)


def test_tornado_asks_for_keep_alive_at_each_request():
    assert "no_keep_alive" in inspect.signature(HTTP1ConnectionParameters).parameters
    assert "self.params.no_keep_alive" in source(HTTP1Connection)
    assert "self.conn_params" in source(HTTPServer.initialize)


def test_tornado_asks_the_door_for_each_request():
    assert "self.request_callback.start_request(server_conn, request_conn)" in source(HTTPServer.start_request)


def test_tornado_writes_each_answers_headers_through_its_connection():
    assert "self.request.connection.write_headers(" in source(web.RequestHandler.flush)
    assert "HTTP1Connection(self.stream, False, self.params, self.context)" in source(HTTP1ServerConnection)


def test_tornado_keeps_what_was_sent_in_two_places():
    delegate = source(web._HandlerDelegate)
    assert "self.chunks = bytearray()" in delegate
    assert "self.request.body = bytes(self.chunks)" in delegate
    assert "self._finished = True" in source(web.RequestHandler.finish)
    assert "delegate.on_close(self)" in source(HTTP1ServerConnection._server_request_loop)


def test_tornado_counts_what_is_left_of_an_answers_body():
    assert "self._expected_content_remaining -= len(chunk)" in source(HTTP1Connection._format_chunk)
    assert "self._expected_content_remaining != 0" in source(HTTP1Connection.finish)


def test_tornado_asks_its_file_handler_for_what_downloads_decide():
    get = source(web.StaticFileHandler.get)
    for step in ("self.validate_absolute_path(", "self.set_headers()", 'self.request.headers.get("Range")'):
        assert step in get
    assert get.index("self.set_headers()") < get.index('"Range"') < get.index("self.get_content(")
    assert "self.compute_etag()" in source(web.RequestHandler.set_etag_header)


def test_jupyter_sends_pieces_of_uploads_to_the_manager_where_we_step_in():
    save = source(AsyncLargeFileManager.save)
    assert 'model.get("chunk", None)' in save
    assert "self.run_pre_save_hooks(model=model, path=path)" in save
    assert "self.run_post_save_hooks(model=model, os_path=os_path)" in save


def test_jupyters_static_files_are_remembered_by_their_relative_path():
    # When this fails, StaticFiles may not be needed any more.
    assert isinstance(FileFindHandler._static_paths, dict)
    assert "cls._static_paths[path] = abspath" in source(FileFindHandler.get_absolute_path)


def test_jupyters_server_makes_its_parts_where_we_step_in():
    app = serverapp.ServerApp
    assert "self.init_httpserver()" in source(app.initialize)
    assert "self._http_server" in source(app.http_server.fget)
    for step in ("init_signal", "init_configurables", "init_webapp", "stop", "running_server_info"):
        assert callable(getattr(app, step)), step
    assert "self.no_browser_open_file" in source(app.start_app)
    assert isinstance(app.config_file_paths, property)


def test_every_setting_of_ours_is_one_of_jupyters(tmp_path: Path):
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    told = Instance("/jupyter/", tmp_path, "lab", ("box.test",), True, 0, 0, (), "", True, "conda-forge", None, 1)
    given = Unit([listening], tmp_path, tmp_path, None, "", 0.0, None, None, ())
    pins = config.pinned(told, given, b"key")
    listening.close()
    assert set(pins) <= set(serverapp.ServerApp.class_trait_names(config=True))
    (tmp_path / "extensions/bin").mkdir(parents=True)
    (tmp_path / "extensions/bin/pylsp").touch()
    decided = config.decided("JupyterRemote", pins, told, tmp_path / "sessions", tmp_path / "extensions")
    kernels = decided["Kernels"]
    assert set(kernels) <= set(AsyncMappingKernelManager.class_trait_names(config=True))
    assert set(decided["Sessions"]) <= set(SessionManager.class_trait_names(config=True))
    language_servers = LanguageServerManager.class_traits(config=True)["language_servers"]
    language_servers.validate(LanguageServerManager(), decided.LanguageServerManager.language_servers.get_value({}))
    pages = decided["LabServerApp"]
    for application in (LabApp, JupyterNotebookApp):
        assert set(pages) <= set(application.class_trait_names(config=True))


def test_a_handler_knows_by_a_name_of_jupyters_that_a_program_has_a_token():
    assert '"_token_authenticated"' in source(PasswordIdentityProvider.is_token_authenticated)
    assert "self.identity_provider.get_user(self)" in source(JupyterHandler.prepare)
    assert "self.token_authenticated" in source(JupyterHandler.check_xsrf_cookie)


def test_jupyters_identity_has_the_names_that_are_fixed():
    for name in (
        "token",
        "token_generated",
        "need_token",
        "password_required",
        "allow_password_change",
        "auth_enabled",
        "login_available",
        "logout_available",
        "login_handler_class",
        "logout_handler_class",
        "hashed_password",
        "cookie_name",
        "cookie_options",
        "secure_cookie",
        "get_secure_cookie_kwargs",
        "user_from_cookie",
        "process_login_form",
        "generate_anonymous_user",
    ):
        assert hasattr(PasswordIdentityProvider, name), name


def test_jupyters_kernels_have_the_names_that_are_fixed():
    assert {"transport", "ip", "connection_file"} <= set(ServerKernelManager.class_trait_names())
    assert {"kernel_dirs", "ensure_native_kernel", "allowed_kernelspecs"} <= set(KernelSpecManager.class_trait_names())


def test_jupyters_kernel_is_started_in_the_steps_that_we_change():
    started = source(KernelManager._async_start_kernel)
    assert "self._async_pre_start_kernel(" in started
    assert "self._async_post_start_kernel(" in started
    assert "if self.provisioner is None:" in source(KernelManager._async_pre_start_kernel)
    after = source(KernelManager._async_post_start_kernel)
    assert "self.start_restarter()" in after
    assert "await self.provisioner.post_launch(**kw)" in after
    # What only the original's start connected, a shutdown and an interrupt connect themselves.
    for method in (KernelManager._async_request_shutdown, KernelManager._async_interrupt_kernel):
        assert "self._connect_control_socket()" in source(method)
    assert "self.cleanup_ipc_files()" in source(KernelManager._async_cleanup_resources)
    assert "self.cleanup_connection_file()" in source(KernelManager.__del__)
    assert "self._close_control_socket()" in source(KernelManager.__del__)
    assert "os.path.realpath(self.connection_file)" in source(KernelManager.format_kernel_cmd)


def test_jupyters_kernel_is_what_an_adopted_one_looks_like():
    assert {"_launch_args", "session"} <= set(KernelManager.class_trait_names())
    assert "self._connection_file_written = True" in source(KernelManager.write_connection_file)
    assert "if self._attempted_start or not self._ready:" in source(manager.in_pending_state)
    assert "self._kernel_spec" in source(KernelManager.kernel_spec.fget)
    assert "has_kernel" in source(AsyncIOLoopKernelManager.start_restarter)


def test_jupyters_list_of_kernels_is_kept_as_we_fill_it():
    kernels = AsyncMappingKernelManager
    started = source(kernels._async_start_kernel)
    assert "self._kernel_connections[kernel_id] = 0" in started
    assert "KERNEL_CURRENTLY_RUNNING_TOTAL.labels(" in started
    assert "self.initialize_culler()" in started
    finished = source(kernels._finish_kernel_start)
    assert "self._kernel_ports[kernel_id] = km.ports" in finished
    assert "self.start_watching_activity(kernel_id)" in finished
    assert "self._handle_kernel_died(kernel_id)" in finished
    assert "self.remove_kernel(kernel_id)" in source(kernels._handle_kernel_died)
    assert "self._kernels.pop(kernel_id" in source(kernels.remove_kernel)
    assert "self._kernel_connections.get(kernel_id, 0)" in source(kernels.kernel_model)
    assert "_activity_stream" in source(kernels.stop_watching_activity)
    for method in (kernels.get_kernel, kernels.kernel_model):
        assert "self._check_kernel_id(kernel_id)" in source(method)


def test_jupyters_handler_leaves_a_kernels_websocket_to_the_connections_class():
    handler = KernelWebsocketHandler
    assert "await self.connection.prepare()" in source(handler.pre_get)
    assert "await self.connection.connect()" in source(handler.open)
    assert "self.connection.disconnect()" in source(handler.on_close)
    assert "self.ping_callback = ioloop.PeriodicCallback(" in source(WebSocketMixin.open)
    assert "self.get_compression_options()" in source(WebSocketHandler)


def test_tornado_gives_a_websockets_stream_away():
    assert "self.stream = handler._detach_stream()" in source(WebSocketProtocol13)
    assert "except StreamClosedError:" in source(WebSocketProtocol13._receive_frame_loop)
    assert "self._read_buffer = bytearray()" in source(BaseIOStream.__init__)
    # Closed, and not shut down: our copy of the descriptor stays good.
    assert "shutdown" not in source(IOStream.close_fd)
    assert "shutdown" not in source(BaseIOStream.close)


def test_jupyters_sessions_are_in_the_database_that_we_look_at():
    assert SessionManager._columns == {"session_id", "path", "name", "type", "kernel_id"}
    assert "self._connection = sqlite3.connect(self.database_filepath" in source(SessionManager.connection.fget)
    assert "self.kernel_manager" in source(SessionManager.kernel_culled)
    assert "self.kernel_culled(" in source(SessionManager.row_to_model)


def test_jupyters_stop_ends_kernels_in_a_step_of_its_own():
    assert "await self.cleanup_kernels()" in source(serverapp.ServerApp._cleanup)
    assert "await self.serverapp._cleanup()" in source(ShutdownHandler.post)


def test_the_optional_checkers_of_jsonschema_are_still_optional():
    assert "with suppress(ImportError):" in source(jsonschema._format)
    for name in late.UNNEEDED:
        assert name in source(jsonschema._format)


def test_no_schema_of_jupyters_has_a_format_that_is_not_checked():
    packages = (jupyter_events, jupyter_lsp, jupyter_server, jupyterlab_server, nbformat)
    schemas = [path for package in packages for path in Path(package.__file__).parent.rglob("*schema*/**/*.*")]
    schemas += Path(sys.prefix, "share/jupyter/lab/schemas").rglob("*.json")
    written = {path: path.read_text() for path in schemas if path.suffix in (".json", ".yaml", ".yml")}
    assert len(written) > 50
    unchecked = re.compile(r"""["']?format["']?\s*:\s*["']?(iri|duration)""")
    assert not [path for path, text in written.items() if unchecked.search(text)]


def test_the_server_starts_without_what_hardly_anybody_needs_and_has_it_when_it_is_used(shared: Running):
    program = """
import json, sys
from jupyter_remote.server import late
late.leave_out()
from jupyter_remote.server import app, upstream
upstream.import_lab()
loaded = list(sys.modules)
from jupyterlab import extensions
from jupyterlab.extensions import pypi
from jupyterlab_server import listings_handler
from jupyter_server.gateway import managers
print(json.dumps({
    "loaded": loaded,
    "used": [listings_handler.requests.request.__module__, managers.websocket.create_connection.__module__],
    "manager": type(extensions.MANAGERS["readonly"].load()({}, {})).__name__,
    "pypi": pypi.PyPIExtensionManager.__name__,
}))
"""
    said = json.loads(shared.run_as_server("-c", program).splitlines()[-1])
    assert "jupyterlab.labapp" in said["loaded"]
    behind = ("urllib3", "websocket._core", "httpx", "xmlrpc.client", "arrow", "lark")
    assert not [name for name in behind if name in said["loaded"]]
    assert said["used"] == ["requests.api", "websocket._core"]
    assert said["manager"] == "ReadOnlyExtensionManager"
    assert said["pypi"] == "PyPIExtensionManager"


def test_jupyterlab_loads_extensions_as_ours_is_written():
    # labextensions/jupyter-remote/kernels.js is written by hand against these.
    static = Path(sys.prefix, "share/jupyter/lab/static")
    bootstrap, index = (static / "bootstrap.js").read_text(), (static / "index.out.js").read_text()
    assert "const container = window._JUPYTERLAB[scope];" in bootstrap
    assert "await container.init(" in bootstrap
    assert "await window._JUPYTERLAB[scope].get(module);" in index
    assert "const instance = factory();" in index


def test_a_hidden_page_does_not_open_its_connection_for_events_again():
    # A server that sleeps has closed it (server/sleep.py); each hidden page would wake it at once.
    (core,) = Path(sys.prefix, "share/jupyter/lab/static").glob("jlab_core.*.js")
    assert re.search(r'factory:\(\)=>this\._subscribe\(\),standby:[^}]{0,60}"when-hidden"', core.read_text())


def test_jupyterlab_looks_for_node_when_it_is_imported():
    # When this fails, import_lab() may not be needed any more.
    assert 'which("node")' in inspect.getsource(commands._yarn_config)
    assert "ValueError" in inspect.getsource(commands._yarn_config)


def test_jupyters_terminals_are_made_where_we_step_in():
    extension = app.TerminalsExtensionApp
    assert "self.terminal_manager = self.terminal_manager_class(" in source(extension.initialize_configurables)
    assert "handlers.TermSocket" in source(extension.initialize_handlers)
    assert "api_handlers.default_handlers" in source(extension.initialize_handlers)
    assert api_handlers.TerminalRootHandler in [handler for _, handler in api_handlers.default_handlers]
    assert "self.terminals_available" in source(extension.cleanup_terminals)
    assert "await self.cleanup_terminals()" in source(extension.stop_extension)
    # The checks of a login are before the connection, and what we do is after it.
    assert "self.authorizer.is_authorized" in source(handlers.TermSocket.get)
    assert "open" not in vars(handlers.TermSocket)


def test_jupyters_terminals_have_the_names_that_we_use():
    manager = terminalmanager.TerminalManager
    for name in ("_next_available_name", "_initialize_culler", "_check_terminal", "make_term_env", "create", "list"):
        assert callable(getattr(manager, name)), name
    assert "self._check_terminal(name)" in source(manager.get_terminal_model)
    assert "term.last_activity" in source(manager.get_terminal_model)
    assert "await self.terminate(name, force=True)" in source(manager._cull_inactive_terminal)
    assert "for name in list(self.terminals)" in source(manager._cull_terminals)
    assert "self.term_settings" in source(management.TermManagerBase.__init__)
