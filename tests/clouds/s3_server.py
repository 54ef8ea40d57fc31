"""Amazon S3 as moto's server is it, one request at a time: moto looks at a condition and writes in two steps."""

from process import print_port_and_end_with_parent


def main() -> None:
    """Serves until stdin is closed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    print_port_and_end_with_parent(server.port)
    server.serve_forever()


if __name__ == "__main__":
    main()
