# The page in a container, without torch:
#   docker build -t melanoma_nbdev .
#   docker run --rm -p 127.0.0.1:8866:8866 melanoma_nbdev
# Inside, the page listens on all addresses, because a container's own loopback cannot be reached from outside; the line above publishes it to this machine only.
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 page
WORKDIR /src
COPY settings.ini setup.py MANIFEST.in constraints.txt README.md LICENSE ./
COPY melanoma_nbdev ./melanoma_nbdev
RUN pip install --no-cache-dir -c constraints.txt . && rm -rf /src/build /src/*.egg-info

USER page
WORKDIR /home/page
ENV MPLCONFIGDIR=/home/page/.cache/matplotlib PYTHONUNBUFFERED=1
EXPOSE 8866
HEALTHCHECK --interval=30s --timeout=20s --start-period=40s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8866/voila/static/favicon.ico', timeout=10)"]
CMD ["melanoma_app", "--host", "0.0.0.0", "--port", "8866"]
