#!/usr/bin/env bash
# Installs what `make demo` and `make test` need: .venv from requirements.lock, and the system's software GL.
# Asks for nothing. Where a system package is missing and neither root nor sudo allows installing it, prints the
# exact command and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

UV="uv==0.13.9"
PYTHON=">=3.11,<3.13"
GL_PACKAGES=(libegl1 libgl1 libgl1-mesa-dri)

# apt_install REASON PACKAGE...
apt_install() {
    local reason=$1 as_root=()
    shift
    if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
    if ! command -v apt-get > /dev/null || ! "${as_root[@]}" true 2> /dev/null; then
        echo "$reason. Run this, then the same make command again:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y $*" >&2
        exit 1
    fi
    echo "$reason: installing $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

# A virtual environment of its own for uv, so that nothing outside this folder changes.
install_uv() {
    if [ -x .uv/bin/uv ]; then return; fi
    if ! python3 -c "import ensurepip, venv" 2> /dev/null; then
        apt_install "python3 cannot make virtual environments" python3 python3-venv
    fi
    python3 -m venv --clear .uv
    .uv/bin/pip install --quiet --disable-pip-version-check "$UV"
}

# uv takes a Python of this machine when the version is right, and fetches one when not.
install_environment() {
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=true; fi # as pip and curl do
    if ! .venv/bin/python -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))" 2> /dev/null; then
        if ! .uv/bin/uv venv --quiet --clear --no-project --python "$PYTHON" .venv; then
            echo "This project needs Python $PYTHON. Install one, as with: sudo apt-get install -y python3.11" >&2
            exit 1
        fi
    fi
    # Where Python may not keep its bytecode, as in many containers, every process would compile torch anew: once is enough.
    .uv/bin/uv pip sync --python .venv/bin/python --require-hashes ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} \
        requirements.lock
}

# The probe opens the GL that the renderer uses: what works needs no package.
can_draw() {
    .venv/bin/python -c "from rllib_envs.gl import require_gl; require_gl()" > .venv/gl.log 2>&1
}

install_gl() {
    if can_draw; then return; fi
    apt_install "MuJoCo finds no GL to draw with" "${GL_PACKAGES[@]}"
    if ! can_draw; then
        tail -n 1 .venv/gl.log >&2
        exit 1
    fi
}

install_uv
install_environment
install_gl
touch .venv/installed
